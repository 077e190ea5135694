"""What is known of the runs on a broker, as values. ``run_view`` says how they come about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedjury.monitor import sanitize
from fedjury.monitor.rows import Suspects, Tally, sum_of
from fedjury.protocol.messages import Phase
from fedjury.protocol.record import RoundRecord


@dataclass(frozen=True, slots=True)
class Repeat:
    """A round that is tried again, and why."""

    round: int
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a run."""

    name: str
    heard: float = 0.0
    """When its aggregator last said something (seconds)."""
    generation: int = 0
    """How often it began again."""
    model: str = ""
    parameters: int = 0
    phase: str = ""
    round: int = 0
    attempt: int = 1
    version: int | None = None
    selected: int | None = None
    """How many are selected to train; None: everybody."""
    validators: int = 0
    removed: bool = False
    """Whether it was removed from the broker."""
    start: RoundRecord | None = None
    """How the model was before any round."""
    rows: tuple[RoundRecord, ...] = ()
    """The last rounds that are over, in order."""
    forgotten: Tally = field(default_factory=Tally)
    """What older rounds add up to."""
    horizon: int = 0
    """The last of these."""
    past_refused: Mapping[str, int] | None = None
    """What ``log/history`` says was refused up to the round ``past_round``."""
    past_round: int = 0
    refusing: Mapping[str, int] = field(default_factory=dict)
    """What was refused so far in the round ``refusing_round``."""
    refusing_round: int = 0
    latest: tuple[str, str] | None = None
    """Who was refused last, and why."""
    repeats: tuple[Repeat, ...] = ()
    repeated: int = 0
    """How many times a round was tried again."""
    suspects: Suspects | None = None
    online: frozenset[str] = frozenset()

    @property
    def over(self) -> bool:
        """Whether there is nothing more to come."""
        return self.phase == Phase.DONE or self.removed

    @property
    def last(self) -> RoundRecord | None:
        """The last round that is over."""
        return self.rows[-1] if self.rows else None

    @property
    def tally(self) -> Tally:
        """What all rounds add up to that were heard of."""
        return sum_of(self.rows, self.forgotten)

    @property
    def refused(self) -> dict[str, int]:
        """What was refused in the whole run: reason -> count."""
        total = dict(self.forgotten.refused if self.past_refused is None else self.past_refused)
        after = self.past_round if self.past_refused is not None else 0
        for row in self.rows:
            if row.round > after:
                total = sanitize.added(total, row.traffic.invalid_messages)
        if self.refusing_round > max(after, self.rows[-1].round if self.rows else 0):
            total = sanitize.added(total, self.refusing)
        return total


@dataclass(frozen=True, slots=True)
class State:
    """What is known of all runs."""

    runs: Mapping[str, Run] = field(default_factory=dict)
    malformed: int = 0
    """Messages that were none."""
    turned_away: int = 0
    """Messages of runs for which there was no place."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is to see at a moment; ``since`` and ``now`` are in seconds."""

    state: State = field(default_factory=State)
    connected: bool = False
    since: float = 0.0
    """When that last changed."""
    now: float = 0.0
    outages: int = 0
    """How often the broker was lost."""
    lost: float = 0.0
    """When it last was."""
    notices: tuple[str, ...] = ()
    """The last things that people should know of the connection."""
