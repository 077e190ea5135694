"""Which agents are in which cell, and which cells are cut off: whose agents count as offline.

A broker that dies, or a link that breaks, sends no last wills of the agents behind it. What tells
of it is the bridge's own state; after a while the agents of that cell count as offline. They come
back by their presence, which the bridge sends again as soon as it is connected.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedjury.protocol.membership import GRACE

MOST_CELLS = 10_000


class Cells:
    """The cells of a run, of which there may be none. ``now`` is in seconds of any clock."""

    def __init__(self, most: int, grace: float = GRACE) -> None:
        """``most``: agents whose cells are noted; strangers could tell of more."""
        self.of: dict[str, int] = {}
        """Agent -> the cell that it was last in."""
        self._most, self._grace = most, grace
        self.cut_off: set[str] = set()
        """Agents of cells that are cut off now."""
        self._cut: dict[int, float] = {}
        """Cells that are cut off -> when their agents count as offline; infinity: they do."""
        self._unheard: dict[int, tuple[set[str], float]] = {}
        """Cells that are back -> their agents that have not said so since, and how long we wait."""

    def place(self, agent: str, cell: int) -> None:
        """Note which cell an agent is in."""
        if agent in self.of or len(self.of) < self._most:
            self.of[agent] = cell
            if cell in self._cut:
                self.cut_off.add(agent)
            else:
                self.cut_off.discard(agent)

    def hear(self, agent: str) -> None:
        """Note that an agent has said whether it is there."""
        for waiting, _ in self._unheard.values():
            waiting.discard(agent)

    def link(self, cell: int, online: Iterable[str], now: float, *, up: bool) -> str:
        """Note that a cell is connected, or no longer; returns what people should know, if any.

        ``online``: who counts as online now.
        """
        if not up:
            self._unheard.pop(cell, None)
            if cell in self._cut or len(self._cut) >= MOST_CELLS:
                return ""
            self._cut[cell] = now + self._grace
            self.cut_off |= self._members(cell, self.of)
            agents = len(self._members(cell, online))
            told = f"cell {cell} is cut off"
            if not agents:
                return told
            return f"{told}: in {self._grace:.0f} s its {agents:,} agents count as offline"
        if cell not in self._cut:
            return ""
        del self._cut[cell]
        self.cut_off -= self._members(cell, self.of)
        # Some may have died with their broker, which has then forgotten their last wills.
        self._unheard[cell] = self._members(cell, online), now + self._grace
        return f"cell {cell} is back"

    def again(self, now: float) -> None:
        """Begin every wait again: for a while nobody could be heard at all."""
        until = now + self._grace
        self._cut = {cell: max(when, until) for cell, when in self._cut.items()}
        self._unheard = {cell: (some, until) for cell, (some, _) in self._unheard.items()}

    def lost(self, online: Iterable[str], now: float) -> set[str]:
        """Return who of those online counts as offline from now on."""
        result: set[str] = set()
        if not self._cut and not self._unheard:
            return result
        for cell, when in self._cut.items():
            if now >= when:
                result |= self._members(cell, online)
                self._cut[cell] = float("inf")
        for cell in [cell for cell, (_, until) in self._unheard.items() if now >= until]:
            waiting, _ = self._unheard.pop(cell)
            result |= {agent for agent in waiting if self.of.get(agent) == cell}
        return result

    def _members(self, cell: int, agents: Iterable[str]) -> set[str]:
        """Return which of some agents are in a cell."""
        return {agent for agent in agents if self.of.get(agent) == cell}
