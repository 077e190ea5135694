"""What a rule is given: rows, their weights, and who is in each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """The contributions of a round, one a row: today each is one agent's update."""

    vectors: Matrix
    """(n, d), not to be written to."""
    weights: Samples
    """(n,): how much each counts, as the collect strategy says."""
    names: tuple[str, ...]
    """(m,): the members of all contributions, in the order of the rows."""
    offsets: npt.NDArray[np.int64]
    """(n + 1,): where the members of each row begin in ``names``, and where the last end."""
    staleness: npt.NDArray[np.int64]
    """(n,): how many versions ago the model was the global one from which each was trained."""

    @classmethod
    def of_agents(cls, names: tuple[str, ...], vectors: Matrix, weights: Samples) -> Contributions:
        """Return contributions of one agent each, trained from the global model as it is."""
        n = len(names)
        return cls(vectors, weights, names, np.arange(n + 1), np.zeros(n, np.int64))

    def __len__(self) -> int:
        return len(self.vectors)

    def members(self, row: int) -> tuple[str, ...]:
        """Return who is in a row."""
        return self.names[self.offsets[row] : self.offsets[row + 1]]

    def without(self, names: frozenset[str]) -> Contributions:
        """Return the rows in which none of these is; the same value if that is every row."""
        kept = [row for row in range(len(self)) if names.isdisjoint(self.members(row))]
        if len(kept) == len(self):
            return self
        members = [self.members(row) for row in kept]
        return Contributions(
            self.vectors[kept],
            self.weights[kept],
            tuple(name for row in members for name in row),
            np.cumsum([0, *map(len, members)]),
            self.staleness[kept],
        )
