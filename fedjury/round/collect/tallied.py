"""The updates of a round that stay in cells: whose there are, where, and how much each counts.

As ``UpdateBuffer`` it is a value to those who hold it: adding a tally gives a new collection. They
share what was told all the same. Names are in order in what it makes of them, so neither the order
of arrival nor the cell that an agent is in changes a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Names
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from fedjury.learning.contributions import Contributions
from fedjury.protocol.cells import Tally, listed
from fedjury.protocol.messages import Reason, Update
from fedjury.round.collect.strategy import Answer, Progress, Request
from fedjury.round.collect.synchronous import Synchronous


class Entry(NamedTuple):
    """An update in a cell."""

    cell: int
    place: int
    """In the cell's tallies, from 0."""
    samples: int
    norm: float


class RowsOfCell(NamedTuple):
    """Which of a cell's updates are taken (m,), and which of all rows they become (m,)."""

    places: npt.NDArray[np.int64]
    at: npt.NDArray[np.int64]


class Told(NamedTuple):
    """What a cell has told."""

    life: int
    """Of its worker."""
    updates: int = 0
    taken: int = 0
    """How many of them count."""
    refused: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Tallied:
    """Whose updates there are in cells: ``name in tallied``, ``len(tallied)``."""

    selected: frozenset[str]
    cells: Mapping[int, Told] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    """An agent's name -> its update. Shared with later collections, whose own are in it too."""

    def __len__(self) -> int:
        return sum(told.taken for told in self.cells.values())

    def __contains__(self, name: object) -> bool:
        entry = self.entries.get(name)  # type: ignore[call-overload]
        return entry is not None and self._has(entry)

    @property
    def names(self) -> tuple[str, ...]:
        """The agents whose updates are in it, sorted."""
        return tuple(sorted(self._own()))

    def add(self, update: Update) -> Self:
        """Raise ``TypeError``: no update comes by itself."""
        raise TypeError(f"the update of {update.agent} came by itself, and cells keep theirs")

    def with_tally(self, tally: Tally) -> tuple[Tallied, dict[str, int]]:
        """Return it with what a cell tells, and what was refused since, reason -> how often.

        Nothing changes if it is an earlier worker's, or tells what came after something that was
        not told yet. If it is a later worker's, what the earlier one had told is gone.
        """
        cell, collected = tally.cell, self
        before = self.cells.get(cell, Told(tally.life))
        if tally.life > before.life:
            before, collected = Told(tally.life), self.without((cell,))
        if tally.life < before.life or tally.first > before.updates:
            return self, {}
        entries, names, odd = collected._own(), listed(tally.names), Counter[str]()  # noqa: SLF001
        samples, norms = np.frombuffer(tally.samples, "<u4"), np.frombuffer(tally.norms, "<f8")
        taken = before.taken
        for at in range(before.updates - tally.first, len(names)):
            name = names[at]
            if name in entries:
                odd[Reason.DUPLICATE.value] += 1
            elif name not in self.selected:
                odd[Reason.NOT_SELECTED.value] += 1
            else:
                entries[name] = Entry(cell, tally.first + at, int(samples[at]), float(norms[at]))
                taken += 1
        refused = {why: int(often) for why, often in tally.refused.items()}
        for why, often in refused.items():
            odd[why] += max(0, often - before.refused.get(why, 0))
        updates = max(before.updates, tally.first + len(names))
        cells = {**collected.cells, cell: Told(tally.life, updates, taken, refused)}
        return Tallied(self.selected, cells, entries), dict(+odd)

    def without(self, cells: Names[int]) -> Tallied:
        """Return it without what these cells have told."""
        kept = {cell: told for cell, told in self.cells.items() if cell not in cells}
        own = {name: each for name, each in self._own().items() if each.cell in kept}
        return Tallied(self.selected, kept, own)

    def samples_and_norms(
        self, names: Sequence[str]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return what each of these says of its samples (n,), and the norm of its update (n,)."""
        entries = [self.entries[name] for name in names]
        samples = np.array([entry.samples for entry in entries], dtype=np.int64)
        return samples, np.array([entry.norm for entry in entries], dtype=np.float64)

    def rows(self, names: Sequence[str]) -> dict[int, RowsOfCell]:
        """Return which updates of each cell become which rows, if rows are these names in order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for row, name in enumerate(names):
            if name in self:
                entry = self.entries[name]
                found.setdefault(entry.cell, []).append((entry.place, row))
        pairs = {cell: np.array(sorted(found[cell]), np.int64).T for cell in sorted(found)}
        return {cell: RowsOfCell(*both) for cell, both in pairs.items()}

    def places(self, names: Names[str]) -> dict[int, npt.NDArray[np.int64]]:
        """Return where the updates of these names are: cell -> their places there, ascending."""
        return {cell: rows.places for cell, rows in self.rows([*names]).items()}

    def _has(self, entry: Entry) -> bool:
        """Say whether this collection has it already: a cell's places only grow."""
        told = self.cells.get(entry.cell)
        return told is not None and entry.place < told.updates

    def _own(self) -> dict[str, Entry]:
        """Return the entries without those of later collections."""
        if len(self.entries) == len(self):
            return self.entries
        return {name: each for name, each in self.entries.items() if self._has(each)}


@dataclass(frozen=True)
class InCells:
    """A synchronous round whose updates stay in cells."""

    synchronous: Synchronous

    def begin(self, selected: Names[str]) -> Tallied:
        """Return a collection without updates."""
        return Tallied(frozenset(selected))

    def refusal(self, update: Update, collected: Any, request: Request) -> Reason | None:  # noqa: ARG002
        """Refuse what comes by itself: its cell should have kept it."""
        return Reason.WRONG_PHASE

    def awaited(self, selected: int) -> int:
        """Return how many answers the round waits for."""
        return self.synchronous.awaited(selected)

    def enough(self, progress: Progress, now: float, *, late: bool) -> Answer:
        """Return whether all, or a threshold of them, have answered."""
        return self.synchronous.enough(progress, now, late=late)

    def contributions(self, collected: Tallied, request: Request) -> Contributions:  # noqa: ARG002
        """Return one row an agent, weighted by its samples; the rows are not here, and so empty."""
        names = collected.names
        samples, _ = collected.samples_and_norms(names)
        weights = np.minimum(samples, self.synchronous.largest_weight)
        return Contributions.of_agents(names, np.empty((len(names), 0), np.float32), weights)
