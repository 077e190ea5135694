"""What a round is made of: its configuration, its phases, the events it takes, its effects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from fedjury.config.sections import (
    Aggregation,
    Cells,
    Collect,
    Evaluation,
    Limits,
    Run,
    Sampling,
    Validation,
)
from fedjury.config.sections import Groups as GroupSettings
from fedjury.detection.state import (
    EMPTY,
    NOBODY,
    AgentRegistry,
    DetectionPolicy,
    DetectionResult,
)
from fedjury.judges.pooled import Pool
from fedjury.judges.server_validator import ServerValidator, ServerView
from fedjury.learning.contributions import Contributions
from fedjury.learning.error_profiles import Profile
from fedjury.learning.weights import Vector
from fedjury.privacy import accounting
from fedjury.privacy.noisy_mean import NoisyMean
from fedjury.privacy.releases import Releases
from fedjury.protocol.groups import Groups
from fedjury.protocol.harm import Harm
from fedjury.protocol.messages import (
    GroupVotes,
    Phase,
    Vote,
)
from fedjury.protocol.record import Figures, Quality
from fedjury.protocol.replaceable import Replaceable
from fedjury.round.answered import Answers
from fedjury.round.collect import Collected, CollectStrategy, Request, Synchronous
from fedjury.round.collect.tallied import RowsOfCell, Tallied
from fedjury.round.collect.update_buffer import UpdateBuffer
from fedjury.round.events import Event as Event  # noqa: PLC0414
from fedjury.round.events import InvalidMessage as InvalidMessage  # noqa: PLC0414
from fedjury.round.events import Tick as Tick  # noqa: PLC0414
from fedjury.round.memory import EMPTY_MEMORY, RuleMemory
from fedjury.round.release import Release
from fedjury.round.sums import NO_SUMS, OpenedSums
from fedjury.rules import Rule, RuleState
from fedjury.rules.partitions import Partitions
from fedjury.rules.sums import Asked, Known, SumRule, Total
from fedjury.secure.group import Terms

if TYPE_CHECKING:
    from fedjury.round.lots import Called
    from fedjury.round.secure import SecureRound


RowsInCells = Callable[[tuple[int, int], Mapping[int, RowsOfCell], int], Partitions]
"""(round and attempt, what is taken of each cell, d) -> all rows; raises ``WorkerLost``."""


@dataclass(frozen=True)
class RoundConfig:
    """What never changes during a run: its settings, and what is made of them."""

    rule: Rule
    measure: Callable[[Vector], Quality]
    """How good a model (d,) is, on samples nobody trains on."""
    run: Run
    aggregation: Aggregation
    sampling: Sampling
    collect: Collect
    validation: Validation
    limits: Limits
    evaluation: Evaluation = field(default_factory=Evaluation)
    groups: GroupSettings = field(default_factory=GroupSettings)
    group_key: bytes = b""
    """What groups are drawn by, where that is the aggregator's secret; empty: the run's seed."""
    call_key: bytes = b""
    """What many are called by, where that is the aggregator's secret; empty: the run's seed."""
    flaw: Callable[[Vector], str] = lambda _: ""
    """What is wrong with the answers of a model (d,); empty if nothing is."""
    variances: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Places of a model that hold variances, which no step takes below zero."""
    collecting: CollectStrategy[Any] = field(default_factory=Synchronous)
    """How contributions come together."""
    server_validator: ServerValidator | None = None
    """How the server votes, if it does."""
    pool: Pool | None = None
    """How the server judges what validators counted, where that decides."""
    forced: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Agents who contribute to a round whoever is drawn: an experiment's attackers, by round."""
    detection: DetectionPolicy = NOBODY
    """How fakes are looked for."""
    server_update: Callable[[Vector, int], Vector] | None = None
    """A model (d,) and the round -> the update (d,) that the server trained on data of its own."""
    rule_state: bool = False
    """Whether the rule keeps something between rounds."""
    noisy: NoisyMean | None = None
    """How updates become one with differential privacy, where that is asked for."""
    cells: Cells = field(default_factory=Cells)
    sums: SumRule | None = None
    """The rule as one that asks cells for sums, where they keep their updates."""
    rows: RowsInCells | None = None
    """How the rows are had that cells keep, where the rule needs more of them than sums."""
    secure: Terms | None = None
    """How sums of groups are opened, where nobody is to see single updates."""
    secure_counts: Terms | None = None
    """How sums of what validators count are opened, where that decides and nobody is to see it."""
    epsilon: Callable[[Releases, float], float] = accounting.epsilon
    """What was told with noise so far, and delta -> the spent epsilon."""
    troubles: Callable[[], Sequence[str]] = tuple
    """What people should know of plug-ins that have failed, each once."""

    def unusable(self, candidate: Vector) -> str:
        """Return why nobody has to vote on a candidate (d,); empty if there is no reason."""
        if not self.limits.finite:
            return ""
        if not np.isfinite(candidate).all():
            return "the candidate is not finite"
        flaw = self.flaw(candidate)
        return f"the candidate is unusable: {flaw}" if flaw else ""


@dataclass(frozen=True, slots=True)
class GlobalModel:
    """The last accepted model, and what is known of it."""

    version: int
    weights: Vector
    quality: Quality = Quality()  # noqa: RUF009 - it is frozen
    step: Vector | None = None
    """The aggregated update (d,) that led to it; None for the first."""
    profiles: tuple[Profile, ...] = ()
    """What the server, if it votes, found in the last l + 1 accepted models."""
    harm: Harm = Harm()  # noqa: RUF009 - it is frozen
    """What the run has come to with the models so far."""


@dataclass(frozen=True)
class Waiting(Replaceable):
    """No round is open: the next one is opened when it is due, and its agents are there."""

    name: ClassVar[Phase | None] = None
    pending: Vector | None = None
    """Piggy-back: the candidate on which the next round decides."""
    due: float = 0.0
    """When it may be opened at the earliest, in seconds of the round's clock."""
    again: bool = False
    """Whether it is another attempt at the state's round."""
    release: Release | None = None
    """The noisy candidate of the round to be opened, which was made before the run was resumed."""


@dataclass(frozen=True)
class Training(Replaceable):
    """The selected agents train from the global model, and their updates come in."""

    name: ClassVar[Phase | None] = Phase.TRAIN
    updates: Collected
    invalid_from: frozenset[str] = frozenset()
    """Selected agents of whom only an update came that was refused for its content."""
    settled: float | None = None
    """Since when nobody is missing but those."""
    declined: frozenset[str] = frozenset()
    """Others that nobody waits for and that have not answered: they sit the round out, or have
    missed the last."""
    figures: Answers[Figures] = field(default_factory=Answers)
    """What agents say of their training, where that is to be recorded."""
    failure: str = ""
    """Why the collect strategy has failed; empty if it has not."""
    secure: SecureRound | None = None
    """The groups under secure aggregation, where no update comes by itself."""
    lost: float | None = None
    """Since when a worker is lost that keeps updates of a cell, in seconds of the round's clock."""


@dataclass(frozen=True)
class JudgingAndTraining(Training):
    """Piggy-back: they judge the candidate of the round before, and train from it."""

    name: ClassVar[Phase | None] = Phase.JUDGE_AND_TRAIN
    pending: Vector = field(kw_only=True)
    """The candidate in question."""
    votes: Answers[Vote] = field(default_factory=Answers, kw_only=True)


@dataclass(frozen=True)
class Gathered(Replaceable):
    """What a round has come to before its contributions become one."""

    start: Vector
    """The model (d,) that they were trained from."""
    contributions: Contributions
    """What the rule is to be given: of agents that are not left out, in groups if there are any."""
    contributors: tuple[str, ...] = ()
    """Agents whose updates were accepted, sorted."""
    detection: DetectionResult | None = None
    """What they said of their senders, where somebody looks."""
    filtered: int = 0
    """Updates that were left out because their senders are flagged."""
    figures: Mapping[str, Figures] = field(default_factory=dict)
    """What contributors say of their training, where that is to be recorded."""
    groups: Groups | None = None
    """The groups, if there are any: the rows of the contributions, and those left out."""
    rows: Partitions | None = None
    """The rows, where they are not here but with the workers of their cells."""
    made: Vector | None = None
    """What the rule makes of them (d,), where their cells have added them up."""
    problem: str = ""
    """Why it cannot, if so."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What became of a round's contributions."""

    candidate: Vector | None = None
    """None where there is none that anybody could judge or train from."""
    why: str = ""
    """Why there is none, if there is not."""
    contributors: tuple[str, ...] = ()
    """Agents whose updates were accepted, sorted."""
    detection: DetectionResult | None = None
    """What they said of their senders, where somebody looks."""
    filtered: int = 0
    """Updates that were left out because their senders are flagged."""
    figures: Mapping[str, Figures] = field(default_factory=dict)
    """What contributors say of their training, where that is to be recorded."""
    rule_state: RuleState = field(default_factory=dict)
    """What the rule keeps if the candidate is accepted."""
    groups: Groups | None = None
    """The groups that it was made of, and those left out."""
    group: Vector | None = None
    """One of those groups' candidates (d,), to be remembered where groups are voted on."""


@dataclass(frozen=True)
class Summing(Replaceable):
    """Cells add up the updates that they keep, once for each request of the rule."""

    name: ClassVar[Phase | None] = Phase.TRAIN
    gathered: Gathered
    training: Training
    """The collection as it was closed."""
    tallied: Tallied
    """What cells had told by then."""
    known: Known
    places: Mapping[int, npt.NDArray[np.int64]]
    """The cells that are asked -> which of the updates that they have told of."""
    asked: Asked
    number: int
    """Of the request, in this attempt."""
    step: int = 1
    """Of the rule's requests."""
    sums: Mapping[int, Total] = field(default_factory=dict)


@dataclass(frozen=True)
class VotingOnGroups(Replaceable):
    """The validators judge the groups, before there is a candidate."""

    name: ClassVar[Phase | None] = Phase.VALIDATE_GROUPS
    gathered: Gathered
    votes: Answers[GroupVotes] = field(default_factory=Answers)
    silent: tuple[str, ...] = ()
    """Validators that did not answer, and in whose place others were asked."""
    declined: frozenset[str] = frozenset()
    """Validators that nobody waits for."""

    @property
    def count(self) -> int:
        """How many groups there are to judge."""
        return len(self.gathered.contributions)


@dataclass(frozen=True)
class Voting(Replaceable):
    """The validators judge the candidate, and the evaluators measure it."""

    name: ClassVar[Phase | None] = Phase.VALIDATE
    aggregated: Aggregated
    votes: Answers[Vote] = field(default_factory=Answers)
    silent: tuple[str, ...] = ()
    """Validators that did not answer, and in whose place others were asked."""
    metrics: Answers[Figures] = field(default_factory=Answers)
    """What evaluators measured of the candidate."""
    declined: frozenset[str] = frozenset()
    """Validators and evaluators that nobody waits for."""
    server: ServerView | None = None
    """What the server says of it, if it looks."""
    secure: SecureRound | None = None
    """The groups of validators whose counts are added up under masks, if they are."""


@dataclass(frozen=True)
class Done(Replaceable):
    """The run is over."""

    name: ClassVar[Phase | None] = Phase.DONE
    failure: str = ""
    """Why it was given up, if it was."""


RoundPhase = Waiting | Training | JudgingAndTraining | Summing | VotingOnGroups | Voting | Done


@dataclass(frozen=True)
class State(Replaceable):
    """A run as far as it has got."""

    model: GlobalModel
    round: int
    """Counted from 1; the round before the first is 0."""
    phase: RoundPhase = Waiting()
    attempt: int = 1
    requests: int = 0
    """Sums that cells were asked for in this attempt."""
    registry: AgentRegistry = EMPTY
    """What is known of the agents after the last round."""
    memory: RuleMemory = EMPTY_MEMORY
    """What the rule keeps after the last round."""
    releases: Releases = ()
    """What was told with noise so far, where there is differential privacy."""
    sums: OpenedSums = NO_SUMS
    """Which sums were opened over the model at hand, under secure aggregation."""
    selected: frozenset[str] = frozenset()
    declined: frozenset[str] = frozenset()
    """Selected agents that have said that they sit the round out."""
    validators: tuple[str, ...] = ()
    evaluators: frozenset[str] = frozenset()
    calls: Mapping[str, Called] = field(default_factory=dict)
    """How those of the three are told that are too many to name; see ``protocol.call.PARTS``."""
    missed: Mapping[str, int] = field(default_factory=dict)
    """Agent -> how many times in a row it was selected and has left that unanswered."""
    missed_votes: Mapping[str, int] = field(default_factory=dict)
    """The same of those who were asked for a vote, or to measure a candidate."""
    invalid: Mapping[str, int] = field(default_factory=dict)
    """Messages of the round that were refused, by reason."""
    opened: Tick = Tick(0.0)  # noqa: RUF009 - it is frozen
    deadline: float = 0.0

    @property
    def version(self) -> int:
        """The version of the global model."""
        return self.model.version

    @property
    def weights(self) -> Vector:
        """The global model (d,)."""
        return self.model.weights

    @property
    def request(self) -> Request:
        """What the selected agents are asked for."""
        judging = isinstance(self.phase, JudgingAndTraining)
        return Request(self.round, self.version + judging, self.selected)

    @property
    def updates(self) -> Collected:
        """The updates that have come; empty where none are collected."""
        return self.phase.updates if isinstance(self.phase, Training) else UpdateBuffer.of()

    @property
    def votes(self) -> Mapping[str, Vote]:
        """The votes that have come; empty where nobody votes."""
        return self.phase.votes if isinstance(self.phase, JudgingAndTraining | Voting) else {}

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return isinstance(self.phase, Done)

    @property
    def failure(self) -> str:
        """Why the run was given up; empty if it was not."""
        return self.phase.failure if isinstance(self.phase, Done) else ""
