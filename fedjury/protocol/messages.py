"""Everything that is ever said between aggregator and agents, and among agents who collude.

The name of an agent is part of the topic and not of the payload, so that a broker's access
rules are what makes it true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # it knows messages by their names
    from fedjury.protocol.logs import InvalidMessages, RoundRepeated, RunHistory
    from fedjury.protocol.record import RoundRecord

Vector = npt.NDArray[np.float32]
"""(d,) float32: all parameters, flat, in the manifest's order."""

Values = Mapping[str, float]
"""What was measured, by name."""

PROTOCOL = 2
"""The version that we speak; docs/protocol.md says how it may grow without another."""

MAX_COUNT = 2**31 - 1
"""The largest whole number in a message."""


class Phase(StrEnum):
    """What a round waits for."""

    TRAIN = "train"
    VALIDATE = "validate"
    JUDGE_AND_TRAIN = "judge_and_train"
    """Piggy-back: contributors judge the candidate and train from it if it is clean."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is about; all that an agent needs to know before the first round."""

    model: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    parameters: int
    classes: int = field(default=0, kw_only=True)
    """How many are told apart; 0: numbers are predicted, or the aggregator does not know."""
    input_shape: tuple[int, ...] = field(default=(), kw_only=True)
    """Of one sample; empty where the aggregator does not know."""
    fixed: str = field(default="", kw_only=True)
    """A fingerprint of the aggregator's frozen parameters and constants; empty: it has none."""
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    codec: str
    """How updates should be encoded; every codec of the protocol is accepted."""
    history_codec: str
    """How candidates and history are encoded, and so what judges look at."""
    max_bytes: int
    judge: str
    judge_options: dict[str, Any]
    look_back: int
    minimum_history: int
    protocol: int = PROTOCOL
    loss: str = ""
    """What is trained towards, by name; empty: cross-entropy, or the squared error of numbers."""
    loss_options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    counts: bool = False
    """Whether votes are to carry the errors that their validators counted."""


@dataclass(frozen=True, slots=True)
class Manifest1:
    """A manifest as the first version's agents read it, where they look for it.

    All that it says is which protocol the run speaks: such an agent tells its people so, and ends.
    The other keys hold nothing; it refuses a manifest without them.
    """

    protocol: int
    model: str = ""
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()
    parameters: int = 1
    classes: int = 1
    input_shape: tuple[int, ...] = (1, 1, 1)
    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1.0
    momentum: float = 0.0
    codec: str = "float32"
    history_codec: str = "float32"
    max_bytes: int = 1
    judge: str = ""
    judge_options: dict[str, Any] = field(default_factory=dict)
    look_back: int = 0
    minimum_history: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """Who is called, for what, and for how long (seconds)."""

    round: int
    attempt: int
    phase: Phase
    version: int
    contributors: Literal["all"] | tuple[str, ...]
    validators: tuple[str, ...]
    seconds: float
    evaluators: Literal["all"] | tuple[str, ...] = ()
    """Who measures the candidate while validators judge it."""


@dataclass(frozen=True, slots=True)
class Model:
    """The current global model. Versions count the accepted models, from 0."""

    version: int
    weights: Vector


@dataclass(frozen=True, slots=True)
class History:
    """One of the last l + 1 accepted models, for validators who have not seen it."""

    version: int
    weights: Vector


@dataclass(frozen=True, slots=True)
class Candidate:
    """What the global model would become, and on which version it stands."""

    round: int
    attempt: int
    base: int
    weights: Vector


@dataclass(frozen=True, slots=True)
class Update:
    """What an agent learnt: its weights after training minus those of ``version``.

    With piggy-back it is also a clean vote on the candidate it trained from, which would be
    ``version``; score, threshold, evidence, size, what changed and counts are those of the vote, or
    nothing.
    ``metrics``: what it measured while it trained, by name.
    """

    agent: str
    round: int
    version: int
    samples: int
    delta: Vector
    score: float = 0.0
    threshold: float = 0.0
    evidence: bytes = b""
    size: int = 0
    metrics: Values = field(default_factory=dict)
    changed: int | None = None
    changed_errors: int | None = None
    counts: bytes = b""

    def vote(self, attempt: int) -> Vote:
        """Return the clean vote that it also is: its sender trained from the candidate."""
        return Vote(
            self.agent,
            self.round,
            attempt,
            poisoned=False,
            score=self.score,
            threshold=self.threshold,
            samples=self.samples,
            evidence=self.evidence,
            size=self.size,
            changed=self.changed,
            changed_errors=self.changed_errors,
            counts=self.counts,
        )


@dataclass(frozen=True, slots=True)
class Vote:
    """A validator's verdict on the candidate: poisoned where the score is over the threshold.

    ``evidence``: little-endian float32, what its judge measured of some accepted models, oldest
    first, and of the candidate; empty if nothing. ``size``: bytes of the candidate and the past
    models that it received to come to it. ``changed``: how many of its samples the candidate
    answers otherwise than the last accepted model; ``changed_errors``: the sum of the magnitudes of
    the change vector, the difference of their error profiles. None: it does not say. ``counts``:
    where the manifest asks for them, the error profiles of the accepted models, oldest first, and
    of the candidate (``protocol/counts.py``).
    """

    agent: str
    round: int
    attempt: int
    poisoned: bool
    score: float
    threshold: float
    samples: int
    evidence: bytes = b""
    size: int = 0
    changed: int | None = None
    changed_errors: int | None = None
    counts: bytes = b""


@dataclass(frozen=True, slots=True)
class Decline:
    """An agent will not answer an attempt at a round, so that nobody waits for it.

    It has no data now, or its training failed; a validator cannot judge. If it answers all the
    same, that counts.
    """

    agent: str
    round: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """How good an evaluator finds the candidate, on so many samples of its own: values by name."""

    agent: str
    round: int
    attempt: int
    samples: int
    values: Values


@dataclass(frozen=True, slots=True)
class ColluderUpdate:
    """What a colluding agent learnt honestly in a round, for its coordinator."""

    agent: str
    round: int
    version: int
    delta: Vector


@dataclass(frozen=True, slots=True)
class AttackVector:
    """What all who collude send in a round: ``centre`` plus ``spread`` times noise of their own.

    ``spread`` has no entries where all send the same.
    """

    round: int
    version: int
    centre: Vector
    spread: Vector


class Abilities(NamedTuple):
    """What an agent can do with a candidate."""

    votes: bool = True
    evaluates: bool = False


EVERY_AGENT = Abilities()
"""What agents can do that do not say."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether an agent is there; its last will says when it is not. ``since``: Unix seconds.

    ``votes``, ``evaluates``: whether it can be asked to judge a candidate, or to measure it.
    """

    agent: str
    online: bool
    since: float
    votes: bool = True
    evaluates: bool = False


@dataclass(frozen=True, slots=True)
class AggregatorPresence:
    """Whether the run's aggregator is there; ``since``: when it began its work (Unix seconds).

    So whoever was given no run finds the newest, and whoever waits can be told for what.
    ``partition``: how it takes a simulated fleet's data to be partitioned, and its backdoor to be
    (``fedjury.learning.partition.terms``); agents that partition them otherwise can say so.
    Devices with data of their own need not mind.
    """

    online: bool
    since: float
    partition: str = ""


@dataclass(frozen=True, slots=True)
class Presence1:
    """An aggregator's presence as the first version's agents read it, to find the newest run."""

    online: bool
    since: float
    deals: str = ""


@dataclass(frozen=True, slots=True)
class RoundLog:
    """The record of a finished round, or that it is tried again: for people."""

    record: RoundRecord | RoundRepeated


@dataclass(frozen=True, slots=True)
class InvalidLog:
    """Which messages were invalid so far in a round, for people."""

    record: InvalidMessages


@dataclass(frozen=True, slots=True)
class HistoryLog:
    """A run's last rounds in short, for people who begin to watch in mid-run."""

    record: RunHistory


LOGS = (RoundLog, InvalidLog, HistoryLog)
"""What is for people alone: each carries a record."""

Message = (
    Manifest
    | Round
    | Model
    | History
    | Candidate
    | Update
    | Vote
    | Decline
    | Metrics
    | ColluderUpdate
    | AttackVector
    | Presence
    | AggregatorPresence
    | RoundLog
    | InvalidLog
    | HistoryLog
    | Manifest1
    | Presence1
)


class Reason(StrEnum):
    """Why a message was invalid. Later versions may know more reasons."""

    UNKNOWN_TOPIC = "unknown_topic"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    MISSING_KEY = "missing_key"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_CODEC = "unknown_codec"
    WRONG_LENGTH = "wrong_length"
    NOT_FINITE = "not_finite"
    WRONG_PHASE = "wrong_phase"
    WRONG_ROUND = "wrong_round"
    WRONG_VERSION = "wrong_version"
    NOT_SELECTED = "not_selected"
    DUPLICATE = "duplicate"
    TOO_MANY = "too_many"


class BadMessage(Exception):  # noqa: N818 - it names the thing, not a failure of ours
    """Their fault: bytes that are no message. ``reason`` is for counting, ``detail`` for people."""

    def __init__(self, reason: Reason, detail: str = "", agent: str = "") -> None:
        if not (detail.isascii() and detail.isprintable()):
            detail = ascii(detail)  # may quote the sender, and ends up on a terminal
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.agent = agent
        self.kind: type[Message] | None = None
        """What it came as, where the topic says so."""
