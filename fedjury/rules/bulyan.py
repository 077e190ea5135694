"""Bulyan: Krum chooses, then each coordinate is trimmed (El Mhamdi et al., ICML 2018).

With f Byzantine ones among n >= 4f + 3 updates, Krum chooses one update after the other, each
time among those that are left, until θ = n - 2f are chosen. In each coordinate the result is the
mean of the β = θ - 2f chosen values nearest to their median. Some public code averages all θ of
them, which withstands nothing that Krum lets pass.

Where n - f - 2 of those left is no neighbour at all, Krum looks at one. Updates that are not
finite are surely Byzantine: they are left out, and n and f shrink by their number.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.rules.blocks import Indices, Wide, finite_rows, narrow, zeros
from fedjury.rules.byzantine import byzantine
from fedjury.rules.distances import squared_distances
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples

BLOCK = 1 << 18
"""Elements averaged at a time: with all that is made of them, 8 MiB."""


@rule(compares_all=True)
def bulyan(count: int | None = None, share: float | None = None) -> Rule:
    """Build the rule that reckons with ``count`` Byzantine updates, or with a ``share`` (0.2).

    An f from the share is lowered to (n - 3) / 4 where it is larger. Of equal scores the first
    row's counts. The result is zero if no update is finite.

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the rule, if n < 4 ``count`` + 3.
    """
    number = byzantine("Bulyan", count, share, times=4, plus=3)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows = finite_rows(updates)
        if not len(rows):
            return zeros(updates)
        f = max(0, number(updates.n, context.excluded) - (updates.n - len(rows)))
        chosen = rows[choose(squared_distances(updates, rows), f)]
        return updates.columns(near_the_median, chosen, max(1, len(chosen) - 2 * f))

    return PartitionedRule(rule)


def choose(distances: Wide, f: int) -> Indices:
    """Return which n - 2f rows Krum chooses one by one, from squared distances (n, n)."""
    left = np.arange(len(distances))
    chosen: list[int] = []
    if f == 0:
        return left
    np.fill_diagonal(distances, np.inf)
    order = distances.argsort(axis=1, kind="stable")[:, :-1].astype(np.int32)
    nearest = np.take_along_axis(distances, order, axis=1)
    while len(chosen) < len(distances) - 2 * f:
        neighbours = max(1, len(left) - f - 2)
        best = int(nearest[:, :neighbours].sum(axis=1).argmin())
        chosen.append(int(left[best]))
        # Whoever is chosen leaves: as a row, and as a neighbour in each row.
        stay = left != left[best]
        others = order[stay] != left[best]
        shape = (len(left) - 1, len(left) - 2)
        order, nearest = order[stay][others].reshape(shape), nearest[stay][others].reshape(shape)
        left = left[stay]
    return np.sort(np.array(chosen))


def near_the_median(part: Matrix, first: int, rows: Indices, kept: int) -> Vector:  # noqa: ARG001
    """Return the mean (w,) of the ``kept`` values nearest to the median of these rows, by column.

    Of two that are equally near, the lower one is kept.
    """
    result = np.empty(part.shape[1], dtype=np.float32)
    width = max(1, BLOCK // len(rows))
    places = np.arange(len(rows))
    for start in range(0, len(result), width):
        columns = slice(start, start + width)
        block = part[rows, columns].T.astype(np.float64)
        block.sort(axis=1)
        twice = (block[:, (len(rows) - 1) // 2] + block[:, len(rows) // 2])[:, None]  # the median
        # In order of size they stand side by side, in a window of ``kept`` values. It moves up for
        # as long as the value that it wins is nearer to the median than the one that it loses:
        # high - median < median - low.
        low, high = block[:, : len(rows) - kept], block[:, kept:]
        lost = (low + high < twice).sum(axis=1)[:, None]
        block[(places < lost) | (places >= lost + kept)] = 0
        result[columns] = narrow(block.sum(axis=1) / kept)
    return result
