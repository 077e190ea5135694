"""Everything that is ever said between aggregator and agents, and among agents who collude.

The name of an agent is part of the topic and not of the payload, so that a broker's access
rules are what makes it true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.protocol.cells import (
    CellPresence,
    CellWorker,
    GroupSum,
    GroupSumRequest,
    PartialSum,
    SumRequest,
    Tally,
)
from fedjury.protocol.manifest import PROTOCOL as PROTOCOL  # noqa: PLC0414
from fedjury.protocol.manifest import Manifest as Manifest  # noqa: PLC0414
from fedjury.protocol.manifest import Manifest1 as Manifest1  # noqa: PLC0414

# Messages like those below.
from fedjury.protocol.membership import CellLink as CellLink  # noqa: PLC0414
from fedjury.protocol.membership import CellMember as CellMember  # noqa: PLC0414
from fedjury.protocol.refusals import BadMessage as BadMessage  # noqa: PLC0414
from fedjury.protocol.refusals import Reason as Reason  # noqa: PLC0414
from fedjury.protocol.round import Phase as Phase  # noqa: PLC0414
from fedjury.protocol.round import Round as Round  # noqa: PLC0414
from fedjury.protocol.round import turn_of as turn_of  # noqa: PLC0414
from fedjury.protocol.secure import (
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)

if TYPE_CHECKING:  # it knows messages by their names
    from fedjury.protocol.logs import InvalidMessages, RoundRepeated, RunHistory
    from fedjury.protocol.record import RoundRecord

Vector = npt.NDArray[np.float32]
"""(d,) float32: all parameters, flat, in the manifest's order."""

Values = Mapping[str, float]
"""What was measured, by name."""

MAX_COUNT = 2**31 - 1
"""The largest whole number in a message."""


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
class GroupCandidate:
    """What the global model would become by the mean of one group's updates alone."""

    group: int
    round: int
    attempt: int
    base: int
    weights: Vector


@dataclass(frozen=True, slots=True)
class GroupHistory:
    """A group's candidate of the round that made this version: one of those not voted down.

    With it validators know what is usual for a group. Of version 0 it is the first model.
    """

    version: int
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
class GroupVotes:
    """A validator's verdicts on the groups that it was to judge, all in one message.

    ``groups``: their numbers, ascending, little-endian uint32; ``poisoned``: a byte each, 0 or 1;
    ``scores``, ``thresholds``: little-endian float32. A group is poisoned where its score is over
    its threshold.
    ``size``: bytes of the candidates and past models that it received to come to it; ``cpu``:
    microseconds of processor time that judging took, 0 if it does not say.
    """

    agent: str
    round: int
    attempt: int
    groups: bytes
    poisoned: bytes
    scores: bytes
    thresholds: bytes
    samples: int
    size: int = 0
    cpu: int = 0

    @classmethod
    def of(cls, votes: Mapping[int, Vote]) -> GroupVotes:
        """Return one validator's votes as one message; ``votes``: group -> its vote on that."""
        groups, said = sorted(votes), [votes[group] for group in sorted(votes)]
        first = said[0]
        return cls(
            first.agent,
            first.round,
            first.attempt,
            np.array(groups, "<u4").tobytes(),
            bytes(vote.poisoned for vote in said),
            np.array([vote.score for vote in said], "<f4").tobytes(),
            np.array([vote.threshold for vote in said], "<f4").tobytes(),
            first.samples,
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """The groups that it judged."""
        return tuple(np.frombuffer(self.groups, "<u4").tolist())

    def votes(self) -> dict[int, Vote]:
        """Return the verdicts as votes on one group each, by its number."""
        numbers = (np.frombuffer(part, "<f4").tolist() for part in (self.scores, self.thresholds))
        said = zip(self.numbers, self.poisoned, *numbers, strict=True)
        asked = self.agent, self.round, self.attempt
        return {
            group: Vote(*asked, bool(poisoned), score, threshold, self.samples)
            for group, poisoned, score, threshold in said
        }


@dataclass(frozen=True, slots=True)
class Decline:
    """An agent will not answer an attempt at a round, so that nobody waits for it.

    It has no data now, or its training failed; a validator cannot judge. If it answers all the
    same, that counts.
    """

    agent: str
    round: int
    attempt: int
    why: str = ""
    """For people, where it is not usual."""


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
class Heartbeat:
    """A sign of life of the run's aggregator, every other second; ``since`` as in its presence.

    So an aggregator that comes tells one at work from one that vanished with its machine.
    """

    since: float


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


Serving = AggregatorPresence | CellWorker
"""What a program says that serves a run: that it is there, and by its last will that it is not."""

LOGS = (RoundLog, InvalidLog, HistoryLog)
"""What is for people alone: each carries a record."""

Message = (
    Manifest
    | Round
    | Model
    | History
    | Candidate
    | GroupCandidate
    | GroupHistory
    | Update
    | Vote
    | GroupVotes
    | Decline
    | Metrics
    | SecureKeys
    | SecurePeers
    | SecureShares
    | SecureInbox
    | MaskedUpdate
    | UnmaskRequest
    | UnmaskShares
    | ColluderUpdate
    | AttackVector
    | CellWorker
    | CellPresence
    | Tally
    | SumRequest
    | PartialSum
    | GroupSumRequest
    | GroupSum
    | Presence
    | AggregatorPresence
    | Heartbeat
    | RoundLog
    | InvalidLog
    | HistoryLog
    | CellLink
    | CellMember
    | Manifest1
    | Presence1
)
