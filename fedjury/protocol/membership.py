"""Which agents are in which cell, and which cells are connected: what bridges between brokers say.

A cell is a broker beside its agents, with a bridge to the broker that the aggregator is connected
to, the core's. No program of ours says these messages: the bridge of each cell puts its state, and
its agents' presence once more, below a place of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

PLACE = ".cells"
"""Beside the runs, below their root: no run can be called so."""

GRACE = 20.0
"""Seconds for which a cell may be cut off, or agents silent after their cell's broker is back,
without being missed: a broker that is started again costs nothing but time."""


@dataclass(frozen=True, slots=True)
class CellLink:
    """Whether a cell's broker is connected to the core's."""

    cell: int
    online: bool

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return f"cell-{self.cell}"


@dataclass(frozen=True, slots=True)
class CellMember:
    """An agent's presence as the broker of its cell hands it on: by that its cell is known."""

    cell: int
    agent: str
    online: bool
    since: float
