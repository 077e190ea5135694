"""What the round is made of: its policy and state, the events it takes, the effects it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Collection as Names
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedjury.config.sections import Aggregation, Collect, Limits, Run, Sampling, Validation
from fedjury.judges.profiles import Profile
from fedjury.learning.weights import Vector
from fedjury.protocol.messages import Message, Model, Phase, Reason, Update, Vote
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.replaceable import Replaceable
from fedjury.round.detection_state import (
    EMPTY,
    NOBODY,
    AgentRegistry,
    DetectionPolicy,
    DetectionResult,
)
from fedjury.round.server_validator import ServerValidator
from fedjury.round.update_buffer import UpdateBuffer
from fedjury.rules import Rule


@dataclass(frozen=True)
class RoundConfig:
    """What never changes during a run: its settings, and what is made of them."""

    rule: Rule
    evaluate: Callable[[Vector], float]
    """Accuracy of a model (d,) on held-out data."""
    run: Run
    aggregation: Aggregation
    sampling: Sampling
    collect: Collect
    validation: Validation
    limits: Limits
    flaw: Callable[[Vector], str] = lambda _: ""
    """What is wrong with the answers of a model (d,); empty if nothing is."""
    variances: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Places of a model that hold variances, which no step takes below zero."""
    invalid_seconds: float = 2.0
    """How long to wait for those whose update was refused once everybody else has answered."""
    server_validator: ServerValidator | None = None
    """How the server votes, if it does."""
    forced: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Agents who contribute to a round whoever is drawn: an experiment's attackers, by round."""
    detection: DetectionPolicy = NOBODY
    """How fakes are looked for."""
    server_update: Callable[[Vector, int], Vector] | None = None
    """A model (d,) and the round -> the update (d,) that the server trained on data of its own."""
    backdoor: Callable[[Vector], float] | None = None
    """Success of an experiment's backdoor in a model (d,), on samples nobody trains on."""

    @property
    def judged(self) -> bool:
        """Whether anybody votes on candidates."""
        return bool(self.validation.asked or self.server_validator or self.validation.piggy_back)


@dataclass(frozen=True, slots=True)
class Tick:
    """How late it is (seconds), who is online, and the traffic so far (bytes)."""

    now: float
    online: Names[str] = ()
    received: int = 0
    sent: int = 0
    reachable: bool = True
    """Whether the broker can be heard; while it cannot, no deadline comes nearer."""
    dropped: int = 0
    """Messages that the broker has thrown away so far."""
    time: float = 0.0
    """The time of day, in seconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True)
class InvalidMessage:
    """A message that was refused before it got here; ``update``: it came as an update."""

    agent: str
    reason: Reason
    update: bool = False


Event = Update | Vote | InvalidMessage | Tick


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this."""

    message: Message


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove what is retained where this message would stand."""

    message: Message


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the finished round durable, and the model if it was accepted, before anything else."""

    record: RoundRecord
    accepted: Model | None
    pending: Vector | None = None
    """Piggy-back: the round's candidate, of which the next round decides."""
    registry: AgentRegistry | None = None
    """What is known of the agents from now on, if anything is to be remembered."""


@dataclass(frozen=True, slots=True)
class CountInvalid:
    """Tell people that a message was refused: who (may be empty), why, and all counts so far."""

    agent: str
    reason: Reason
    invalid: Mapping[str, int]


Effect = Publish | Clear | Persist | CountInvalid

NO_UPDATES = UpdateBuffer.of()


@dataclass(frozen=True)
class State(Replaceable):
    """A round as far as it has got. Models are (d,) vectors."""

    version: int
    weights: Vector
    round: int
    """Counted from 1; the round before the first is 0."""
    phase: Phase | None = None
    """None until the first tick opens a round."""
    attempt: int = 1
    accuracy: float | None = None
    backdoor: float | None = None
    """Success of the backdoor in the current model, if it is measured."""
    step: Vector | None = None
    """The aggregated update (d,) that led to the current model; None for the first."""
    profiles: tuple[Profile, ...] = ()
    """What the server, if it votes, found in the last l + 1 accepted models."""
    registry: AgentRegistry = EMPTY
    """What is known of the agents after the last round."""
    detection: DetectionResult | None = None
    """What this round's updates said of their senders, once they are aggregated."""
    filtered: int = 0
    """Updates that were not aggregated, for their senders are flagged."""
    selected: frozenset[str] = frozenset()
    validators: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    """Validators of this attempt who did not answer, and in whose place others were asked."""
    updates: UpdateBuffer = NO_UPDATES
    votes: Mapping[str, Vote] = field(default_factory=dict)
    invalid_from: frozenset[str] = frozenset()
    """Called agents under whose name an update came that was refused for its content."""
    settled: float | None = None
    """Since when nobody is missing but those."""
    invalid: Mapping[str, int] = field(default_factory=dict)
    candidate: Vector | None = None
    pending: Vector | None = None
    """Piggy-back: the candidate of the round before, on which this round's contributors vote."""
    lost: str = ""
    """Piggy-back: why this round's own candidate is not put before anybody, if it is not."""
    server_vote: Vote | None = None
    """The server's vote on the candidate, if it has one."""
    server_profile: Profile | None = None
    """What it found in the candidate."""
    opened: Tick = Tick(0.0)
    deadline: float = 0.0
    failure: str | None = None
    """Why the run was given up, if it was."""
