"""Everything that is ever said between aggregator and agents, and among agents who collude.

The name of an agent is part of the topic and not of the payload, so that a broker's access
rules are what makes it true.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""(d,) float32: all parameters, flat, in the manifest's order."""

PROTOCOL = 1


class Phase(StrEnum):
    """What a round waits for."""

    TRAIN = "train"
    VALIDATE = "validate"
    JUDGE_AND_TRAIN = "judge_and_train"
    """Piggy-back: contributors judge the candidate and train from it if it is clean."""
    DONE = "done"


class Manifest(NamedTuple):
    """What a run is about; all that an agent needs to know before the first round."""

    model: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    parameters: int
    classes: int
    input_shape: tuple[int, ...]
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


class Round(NamedTuple):
    """Who is called, for what, and for how long (seconds)."""

    round: int
    attempt: int
    phase: Phase
    version: int
    contributors: Literal["all"] | tuple[str, ...]
    validators: tuple[str, ...]
    seconds: float


class Model(NamedTuple):
    """The current global model. Versions count the accepted models, from 0."""

    version: int
    weights: Vector


class History(NamedTuple):
    """One of the last l + 1 accepted models, for validators who have not seen it."""

    version: int
    weights: Vector


class Candidate(NamedTuple):
    """What the global model would become, and on which version it stands."""

    round: int
    attempt: int
    base: int
    weights: Vector


class Update(NamedTuple):
    """What an agent learnt: its weights after training minus those of ``version``.

    With piggy-back it is also a clean vote on the candidate it trained from, which would be
    ``version``; score, threshold, evidence and bytes are those of the vote, else 0 or nothing.
    """

    agent: str
    round: int
    version: int
    samples: int
    delta: Vector
    score: float = 0.0
    threshold: float = 0.0
    evidence: bytes = b""
    bytes: int = 0


class Vote(NamedTuple):
    """A validator's verdict on the candidate: poisoned where the score is over the threshold.

    ``evidence``: little-endian float32, what its judge measured of some accepted models, oldest
    first, and of the candidate; empty if nothing. ``bytes``: of the candidate and the past models
    that it received to come to it.
    """

    agent: str
    round: int
    attempt: int
    poisoned: bool
    score: float
    threshold: float
    samples: int
    evidence: bytes = b""
    bytes: int = 0


class Report(NamedTuple):
    """What a colluding agent learnt honestly in a round, for its ringleader."""

    agent: str
    round: int
    version: int
    delta: Vector


class Plot(NamedTuple):
    """What all who collude send in a round: ``centre`` plus ``spread`` times noise of their own.

    ``spread`` has no entries where all send the same.
    """

    round: int
    version: int
    centre: Vector
    spread: Vector


class Presence(NamedTuple):
    """Whether an agent is there; its last will says when it is not. ``since``: Unix seconds."""

    agent: str
    online: bool
    since: float


class AggregatorPresence(NamedTuple):
    """Whether the run's aggregator is there; ``since``: when it began its work (Unix seconds).

    So whoever was given no run finds the newest, and whoever waits can be told for what.
    ``deals``: how it takes a simulated fleet's data to be dealt, and its backdoor to be
    (``fedjury.learning.dealing.terms``); agents of one that deals otherwise can say so.
    Devices with data of their own need not mind.
    """

    online: bool
    since: float
    deals: str = ""


class RoundLog(NamedTuple):
    """The record of a finished round, for people."""

    record: dict[str, Any]


class RefusedLog(NamedTuple):
    """What was refused so far in a round: reason -> count, and the latest sender, for people."""

    record: dict[str, Any]


class PastLog(NamedTuple):
    """A run's last rounds in short, for people who begin to watch in mid-run."""

    record: dict[str, Any]


LOGS = (RoundLog, RefusedLog, PastLog)
"""What is for people alone: maps of whatever there is to say."""

Message = (
    Manifest
    | Round
    | Model
    | History
    | Candidate
    | Update
    | Vote
    | Report
    | Plot
    | Presence
    | AggregatorPresence
    | RoundLog
    | RefusedLog
    | PastLog
)


class Reason(StrEnum):
    """Why a message was refused. The list is complete."""

    UNKNOWN_TOPIC = "unknown_topic"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_KEYS = "wrong_keys"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_CODEC = "unknown_codec"
    WRONG_LENGTH = "wrong_length"
    NOT_FINITE = "not_finite"
    WRONG_PHASE = "wrong_phase"
    WRONG_ROUND = "wrong_round"
    WRONG_VERSION = "wrong_version"
    NOT_CALLED = "not_called"
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
