"""DnC, divide and conquer (Shejwalkar, Houmansadr, NDSS 2021).

In each iteration some coordinates are drawn, the updates are centred there, and projected onto the
direction in which they vary most (the first right singular vector); the c f updates with the
largest squared projections are left out. The result is the mean of those who were never left out.
The projections come from the products of the centred updates, so no n by b matrix is decomposed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.registry.bounds import AtLeastOne, Positive
from fedjury.rules.blocks import BLOCK, WIDE, Indices, Wide, finite_rows, mean_of, within, zeros
from fedjury.rules.byzantine import byzantine, rounded_up
from fedjury.rules.distances import added_products
from fedjury.rules.limit import within_limit
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(compares_all=True)
def dnc(
    count: int | None = None,
    share: float | None = None,
    iterations: AtLeastOne = 1,
    coordinates: AtLeastOne = 10_000,
    factor: Positive = 1.0,
) -> Rule:
    """Build the rule that reckons with ``count`` Byzantine updates, or with a ``share`` (0.2).

    ``coordinates``: how many are drawn; ``factor``: c, so that c f updates, rounded up, are left
    out in each iteration, but one. If all were left out at some time, those left out least often
    are averaged. Updates that are not finite are the first to be left out; if none is finite, the
    result is zero.

    Raises
    ------
    ValueError
        If count and share are both given or one is out of range; by the rule, if
        n < 2 ``count`` + 1, or c f updates are all there are.
    """
    number = byzantine("DnC", count, share, times=2, plus=1)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows, rng = finite_rows(updates), context.rng()
        n, d = updates.n, updates.d
        out = rounded_up(factor * number(n, context.excluded))
        if out >= n and count is not None and not context.excluded:
            raise ValueError(f"DnC leaves out {out} of {n} updates: none would be left")
        if not len(rows):
            return zeros(updates)
        kept = min(len(rows), max(1, n - out))
        times = np.zeros(len(rows), dtype=np.int64)
        for _ in range(iterations):
            drawn = np.sort(rng.choice(d, min(d, coordinates), replace=False))
            times[outlyingness(updates, rows, drawn).argsort(kind="stable")[:kept]] += 1
        return mean_of(updates, rows[times == times.max()])

    return PartitionedRule(rule)


def outlyingness(updates: Partitions, rows: Indices, columns: Indices) -> Wide:
    """Return the squared projections (m,) of these m finite rows, by these columns of (n, d)."""
    from scipy import linalg  # type: ignore[import-untyped] # noqa: PLC0415 - slow to load

    within_limit(len(rows), updates.count)
    total = updates.total(products_about_the_mean, rows, columns)
    if not total.any():  # all the same: no direction
        return np.zeros(len(rows))
    last = [len(rows) - 1] * 2
    values, vectors = linalg.eigh(total / total.max(), subset_by_index=last)
    squares: Wide = values[0] * vectors[:, 0] ** 2
    return squares


def products_about_the_mean(part: Matrix, first: int, rows: Indices, columns: Indices) -> Wide:
    """Return the products (m, m) of m rows less their mean, by those of the columns in a part."""
    inside = within(columns, first, part)
    width = max(WIDE, BLOCK // len(rows))

    def read() -> Iterator[Wide]:
        for start in range(0, len(inside), width):
            block = part[np.ix_(rows, inside[start : start + width])].astype(np.float64)
            yield np.subtract(block, block.mean(axis=0), out=block)

    return added_products(read(), len(rows))
