"""What a round is told: messages of agents and cells, what was refused of them, and the time."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedjury.protocol.cells import GroupSum, PartialSum, Tally
from fedjury.protocol.messages import Decline, GroupVotes, Metrics, Reason, Update, Vote
from fedjury.protocol.secure import SecureUp


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
    cannot_vote: Names[str] = ()
    """Who of those online cannot judge a candidate."""
    can_evaluate: Names[str] = ()
    """Who of them can measure one."""
    paused: bool = False
    """Whether no further round is to be opened for now."""
    cells: Mapping[str, int] = field(default_factory=dict)
    """Agent -> the cell that it is in, where agents are in cells."""
    cut_off: Names[str] = ()
    """Agents of cells that are cut off: that they are silent is no fault of theirs."""


@dataclass(frozen=True, slots=True)
class InvalidMessage:
    """A message that was refused before it got here; ``update``: it came as an update."""

    agent: str
    reason: Reason
    update: bool = False


Answer = Update | Vote | GroupVotes | Metrics | Decline
Event = Answer | Tally | PartialSum | GroupSum | SecureUp | InvalidMessage | Tick
