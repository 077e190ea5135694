"""The updates of a round: a matrix with a row for each selected agent, filled as they arrive.

To those who hold it a collection is a value: adding an update gives a new collection and leaves
the old one as it was. They share one matrix all the same, for a row is written once: adding costs
the copy of one vector, however many there are. Who adds to a collection that has been added to
already gets a matrix of its own.

Rows are in the order of the agents' names, so that the order of arrival never changes a result,
and nothing has to be sorted or copied before it is aggregated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Collection as Names
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fedjury.learning.weights import Matrix
    from fedjury.protocol.messages import Update


class _Storage:
    """What buffers share: which agents answered when, and with what."""

    def __init__(self, row: dict[str, int], allocate: Allocate) -> None:
        self.allocate = allocate
        self.row = row
        """A selected agent's name -> its row."""
        self.place: dict[str, int] = {}
        """An agent's name -> its place in the order of arrival."""
        self.updates: Matrix = np.empty((0, 0), dtype=np.float32)
        self.samples = np.zeros(len(row), dtype=np.int64)

    def write(self, update: Update) -> None:
        """Copy the delta (d,) of an agent who is not here yet to its row."""
        if not self.place:
            self.updates = self.allocate(len(self.row), len(update.delta))
        row = self.row[update.agent]
        self.updates[row] = update.delta
        self.samples[row] = update.samples
        self.place[update.agent] = len(self.place)

    def until(self, count: int) -> _Storage:
        """Copy the first ``count`` that came."""
        copy = _Storage(self.row, self.allocate)
        copy.place = {name: place for name, place in self.place.items() if place < count}
        copy.updates, copy.samples = self.updates.copy(), self.samples.copy()
        return copy


Allocate = Callable[[int, int], "Matrix"]
"""(n, d) -> a float32 matrix that holds anything, and that nobody else sees."""


def fresh(n: int, d: int) -> Matrix:
    """Return a new matrix (n, d)."""
    return np.empty((n, d), np.float32)


class UpdateBuffer:
    """The updates that have come of the selected agents: ``name in buffer``, ``len(buffer)``."""

    def __init__(self, storage: _Storage, count: int) -> None:
        self._storage, self._count = storage, count

    @classmethod
    def of(cls, selected: Names[str] = (), allocate: Allocate = fresh) -> UpdateBuffer:
        """Begin a collection of the updates of the selected agents."""
        rows = {name: row for row, name in enumerate(sorted(selected))}
        return cls(_Storage(rows, allocate), 0)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        place = self._storage.place.get(name)  # type: ignore[call-overload]
        return place is not None and place < self._count

    def __iter__(self) -> Iterator[str]:
        """Go through the names of those who came, in the order in which they did."""
        return (name for name in self._storage.place if name in self)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of those who came, in order of name: those of the matrix's rows."""
        return tuple(sorted(self))

    def add(self, update: Update) -> UpdateBuffer:
        """Return the buffer with one update more, of a selected agent that is not in it yet."""
        storage = self._storage
        if len(storage.place) > self._count:  # somebody else went on from here
            storage = storage.until(self._count)
        storage.write(update)
        return UpdateBuffer(storage, self._count + 1)

    def matrix(self) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """Return the updates (n, d) and what each says of its samples (n,), in order of name.

        No copy where everybody answered; do not write to it.
        """
        storage = self._storage
        if self._count == len(storage.row):
            return storage.updates, storage.samples
        rows = sorted(storage.row[name] for name in self)
        return storage.updates[rows], storage.samples[rows]
