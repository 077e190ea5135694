"""The updates of a round: a matrix with a row for each called agent, filled as they arrive.

To those who hold it a collection is a value: adding an update gives a new collection and leaves
the old one as it was. They share one matrix all the same, for a row is written once: adding costs
the copy of one vector, however many there are. Who adds to a collection that has been added to
already gets a matrix of its own.

Rows are in the order of the agents' names, so that the order of arrival never changes a result,
and nothing has to be sorted or copied before it is aggregated.
"""

from __future__ import annotations

import sys
from collections.abc import Collection as Names
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fedjury.learning.weights import Matrix
    from fedjury.protocol.messages import Update


class _Storage:
    """What collections share: who came when, and what they brought."""

    def __init__(self, row: dict[str, int]) -> None:
        self.row = row
        """A called agent's name -> its row."""
        self.place: dict[str, int] = {}
        """An agent's name -> its place in the order of arrival."""
        self.updates: Matrix = np.empty((0, 0), dtype=np.float32)
        self.samples = np.zeros(len(row), dtype=np.int64)

    def write(self, update: Update) -> None:
        """Copy the delta (d,) of an agent who is not here yet to its row."""
        if not self.place:
            self.updates = _matrix(len(self.row), len(update.delta))
        row = self.row[update.agent]
        self.updates[row] = update.delta
        self.samples[row] = update.samples
        self.place[update.agent] = len(self.place)

    def until(self, count: int) -> _Storage:
        """Copy the first ``count`` that came."""
        copy = _Storage(self.row)
        copy.place = {name: place for name, place in self.place.items() if place < count}
        copy.updates, copy.samples = self.updates.copy(), self.samples.copy()
        return copy


_matrices: list[Matrix] = []
"""The last matrices, for rounds to come: new memory costs twice as much to write, for the system
hands it out page by page, each filled with zeros (52 MB: 15 ms)."""

MATRICES = 3
"""How many: a round's, the one before that detectors remember, and one to spare."""


def _matrix(n: int, d: int) -> Matrix:
    """Return a matrix (n, d) that holds anything, and that nobody else sees."""
    _matrices[:] = [matrix for matrix in _matrices if matrix.shape == (n, d)]
    for matrix in _matrices:
        # Three references are the list's, ours and the call's: nobody holds it, or a view of it.
        if sys.getrefcount(matrix) == 3:
            return matrix
    _matrices[:] = [*_matrices, np.empty((n, d), np.float32)][-MATRICES:]
    return _matrices[-1]


class UpdateBuffer:
    """The updates that have come of those called; ``name in collection``, ``len(collection)``."""

    def __init__(self, ledger: _Storage, count: int) -> None:
        self._storage, self._count = ledger, count

    @classmethod
    def of(cls, selected: Names[str] = ()) -> UpdateBuffer:
        """Begin a collection of the updates of those called."""
        return cls(_Storage({name: row for row, name in enumerate(sorted(selected))}), 0)

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
        """Return the collection with one update more, of a called agent who is not in it yet."""
        ledger = self._storage
        if len(ledger.place) > self._count:  # somebody else went on from here
            ledger = ledger.until(self._count)
        ledger.write(update)
        return UpdateBuffer(ledger, self._count + 1)

    def matrix(self) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """Return the updates (n, d) and what each says of its samples (n,), in order of name.

        No copy where everybody answered; do not write to it.
        """
        ledger = self._storage
        if self._count == len(ledger.row):
            return ledger.updates, ledger.samples
        rows = sorted(ledger.row[name] for name in self)
        return ledger.updates[rows], ledger.samples[rows]
