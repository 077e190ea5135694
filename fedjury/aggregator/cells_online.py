"""Which agents are online in which cell, as the cells' ingest workers tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fedjury.protocol.cells import EVALUATES, VOTES, CellPresence, CellWorker, listed
from fedjury.protocol.messages import Presence


@dataclass
class CellsOnline:
    """Turns what a cell tells of many agents into what each of them would."""

    agents: dict[int, dict[str, int]] = field(default_factory=dict)
    """The cells -> who is there, and what each can do (``CellPresence``)."""
    life: dict[int, int] = field(default_factory=dict)
    """The life of the worker that told so last."""

    def news(self, told: CellPresence | CellWorker) -> Iterator[Presence]:
        """Yield who has come, and who has left; what an earlier worker tells changes nothing."""
        if told.life < self.life.get(told.cell, 0):
            return
        self.life[told.cell] = told.life
        there = self.agents.setdefault(told.cell, {})
        if isinstance(told, CellWorker):
            if not told.online:
                yield from self._gone(told.cell, list(there))
            return
        came = dict(zip(listed(told.came), told.abilities, strict=True))
        left = [name for name in there if name not in came] if told.whole else listed(told.left)
        yield from self._gone(told.cell, left)
        for name, able in came.items():
            there[name] = able
            yield Presence(name, True, 0.0, bool(able & VOTES), bool(able & EVALUATES))

    def _gone(self, cell: int, names: list[str] | tuple[str, ...]) -> Iterator[Presence]:
        """Yield that these have left a cell, but for those that are in another meanwhile."""
        for name in names:
            self.agents[cell].pop(name, None)
            if not any(name in others for others in self.agents.values()):
                yield Presence(name, online=False, since=0.0)
