"""Which agents a cell has: told in one message where thousands come at a time."""

from __future__ import annotations

from fedjury.protocol.cells import EVALUATES, MAX_CELL_AGENTS, VOTES, CellPresence
from fedjury.protocol.membership import GRACE
from fedjury.protocol.messages import Presence

MOST_TOLD = 10_000
"""Agents that one message tells of."""


class CellAgents:
    """Who is there, and who has come and left since the aggregator was told."""

    def __init__(self, cell: int, life: int) -> None:
        self._cell, self._life = cell, life
        self.there: dict[str, int] = {}
        """An agent's name -> its abilities, as in ``CellPresence``."""
        self._came: dict[str, int] = {}
        self._left: dict[str, None] = {}
        self._whole = True
        self._silent: set[str] = set()
        """Who has not said that it is there since the broker is back."""
        self._until = 0.0

    def live(self, life: int) -> None:
        """Tell all there is, as a worker of another life."""
        self._life = life
        self.tell_all()

    def doubt(self, now: float) -> None:
        """Wait for all to say again that they are there: who died with its broker left no will."""
        self._silent, self._until = set(self.there), now + GRACE

    def settle(self, now: float) -> None:
        """Take for gone who has not said so for a while."""
        if self._silent and now >= self._until:
            for name in sorted(self._silent):
                self.note(Presence(name, online=False, since=0.0))
            self._silent = set()

    def note(self, message: Presence) -> None:
        """Note that an agent is there, or no longer."""
        name = message.agent
        self._silent.discard(name)
        if not message.online:
            if self.there.pop(name, None) is not None:
                self._came.pop(name, None)
                self._left[name] = None
            return
        if name not in self.there and len(self.there) >= MAX_CELL_AGENTS:
            return
        abilities = VOTES * message.votes + EVALUATES * message.evaluates
        self._left.pop(name, None)
        if self.there.get(name) != abilities:
            self.there[name] = self._came[name] = abilities

    def tell_all(self) -> None:
        """Tell from now on who is there at all, as if nothing had been told."""
        self._whole, self._came, self._left = True, dict(self.there), {}

    def next(self) -> CellPresence | None:
        """Return what is still to be told, or the first part of it; None if there is nothing."""
        if not (self._whole or self._came or self._left):
            return None
        came = list(self._came)[:MOST_TOLD]
        left = list(self._left)[: MOST_TOLD - len(came)]
        abilities = bytes(self._came.pop(name) for name in came)
        for name in left:
            del self._left[name]
        whole, self._whole = self._whole, False
        return CellPresence(
            self._cell, self._life, whole, " ".join(came), abilities, " ".join(left)
        )
