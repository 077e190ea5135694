"""Which agents a cell has: told in one message where thousands come at a time."""

from __future__ import annotations

from fedjury.protocol.cells import EVALUATES, VOTES, CellPresence
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

    def note(self, message: Presence) -> None:
        """Note that an agent is there, or no longer."""
        name = message.agent
        if not message.online:
            if self.there.pop(name, None) is not None:
                self._came.pop(name, None)
                self._left[name] = None
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
