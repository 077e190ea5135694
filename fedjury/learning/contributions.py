"""What a rule is given: rows, their weights, and who is in each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix

Samples = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """The contributions of a round, one a row: an agent's update, or the mean of a group's."""

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
        return self.of_rows(
            [row for row in range(len(self)) if names.isdisjoint(self.members(row))]
        )

    def of_rows(self, kept: Sequence[int]) -> Contributions:
        """Return these rows, ascending; the same value if that is every row."""
        if len(kept) == len(self):
            return self
        kept = [*kept]
        members = [self.members(row) for row in kept]
        return Contributions(
            self.vectors[kept],
            self.weights[kept],
            tuple(name for row in members for name in row),
            np.cumsum([0, *map(len, members)]),
            self.staleness[kept],
        )

    def in_groups(self, groups: Sequence[Sequence[str]]) -> Contributions:
        """Return the mean of each group's rows, weighted by their weights, which add up.

        ``groups``: names, each agent in one. Of a group whose members are not all here it is the
        mean of those that are, with their weight; a group of which nobody is here has no row. Rows
        stay in the order of the groups, and the members of a row in that of their names.
        """
        row = {name: i for i in range(len(self)) for name in self.members(i)}
        here = [sorted(name for name in group if name in row) for group in groups]
        members = [tuple(group) for group in here if group]
        vectors = np.empty((len(members), self.vectors.shape[1]), np.float32)
        weights = np.empty(len(members), np.int64)
        staleness = np.empty(len(members), np.int64)
        for i, group in enumerate(members):
            rows = [row[name] for name in group]
            weights[i], staleness[i] = self.weights[rows].sum(), self.staleness[rows].max()
            with np.errstate(over="ignore", invalid="ignore"):
                vectors[i] = mean_of(self.vectors[rows], self.weights[rows])
        names = tuple(name for group in members for name in group)
        offsets = np.cumsum([0, *map(len, members)])
        return Contributions(vectors, weights, names, offsets, staleness)


def mean_of(vectors: Matrix, weights: Samples) -> npt.NDArray[np.float64]:
    """Return the mean (d,) of vectors (n, d), weighted; equally where all weights are 0."""
    shares = weights / weights.sum() if weights.any() else np.full(len(weights), 1 / len(weights))
    result: npt.NDArray[np.float64] = shares @ vectors.astype(np.float64)
    return result
