"""FoundationFL: a simple rule over real and synthetic updates (Fang et al., NDSS 2025).

Let u be the largest and l the smallest value of each coordinate. The score of an update is
min(‖gᵢ - u‖, ‖gᵢ - l‖): how far it stays from both extremes. One update is added n / 2 times, and
the union of real and synthetic updates is given to the trimmed mean or the median.

Which one is added can be read in two ways (arXiv 2501.17381). The formula as printed takes the
update of the highest score. The text calls a high score suspicious, which makes it the lowest. The
two withstand different fakes. As printed, updates that drag all coordinates to one side are never
copied, but those that point up in some and down in others, far beyond the honest ones (MPAF), are
far from u in the one and far from l in the other, and must be. With the lowest score it is the
other way round: MPAF is held, and fakes that are the largest of all coordinates are copied.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.registry.bounds import FromZero
from fedjury.rules.blocks import BLOCK, Indices, Wide, blocks, finite_rows, zeros
from fedjury.rules.byzantine import byzantine
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples
from fedjury.rules.trimmed_mean import trim

CHOOSE = {"highest": np.argmax, "lowest": np.argmin}
"""Which score belongs to the update that is copied."""

ROWS = 128
"""Rows that are measured at a time, so that their differences stay in the cache."""


@rule
def foundationfl(
    base: Literal["trimmed_mean", "median"] = "trimmed_mean",
    synthetic: FromZero | None = None,
    copied: Literal["highest", "lowest"] = "highest",
    count: int | None = None,
    share: float | None = None,
) -> Rule:
    """Build the rule; ``base``: trimmed_mean or median; ``synthetic``: how many copies are added.

    These are n / 2, rounded down, if None. ``copied``: the update of the highest score, as the
    paper prints it, or of the lowest, as its text reads; of equal scores the first row's.

    The trimmed mean drops ``count`` values at each end of the union, or as many as a ``share`` of
    the real updates (0.2) is. Updates that are not finite are left out, and fewer are dropped by
    their number; if none is finite, the result is zero.

    Raises
    ------
    ValueError
        If count and share are both given, or one is out of range; by the rule, if
        n < 2 ``count`` + 1.
    """
    number = byzantine("FoundationFL", count, share, times=2, plus=1)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows, n = finite_rows(updates), updates.n
        f = number(n, context.excluded)
        if not len(rows):
            return zeros(updates)
        row = rows[CHOOSE[copied](scores(updates, rows))]
        union = np.concatenate([rows, np.repeat(row, n // 2 if synthetic is None else synthetic)])
        k = (len(union) - 1) // 2 if base == "median" else max(0, f - (n - len(rows)))
        return updates.columns(trim_rows, union, k)

    return PartitionedRule(rule)


def trim_rows(part: Matrix, first: int, rows: Indices, k: int) -> Vector:  # noqa: ARG001
    """Return the trimmed mean (w,) of these rows of a partition, which may come repeatedly."""
    result = np.empty(part.shape[1], dtype=np.float32)
    width = max(1, BLOCK // len(rows))
    for start in range(0, len(result), width):
        columns = slice(start, start + width)
        result[columns] = trim(part[rows, columns], k)
    return result


def scores(updates: Partitions, rows: Indices) -> Wide:
    """Return the squared distance (m,) of each of these finite rows from the nearer extreme."""
    above, below = updates.total(from_extremes, rows)
    nearer: Wide = np.minimum(above, below)
    return nearer


def from_extremes(part: Matrix, first: int, rows: Indices) -> Wide:  # noqa: ARG001
    """Return the squared distances (2, m) of these rows of a partition from both extremes."""
    above, below = result = np.zeros((2, len(rows)))
    for _, block in blocks(part, rows):
        above += squares_from(block, block.max(axis=0))
        below += squares_from(block, block.min(axis=0))
    return result


def squares_from(block: Wide, point: Wide) -> Wide:
    """Return the squared distances (m,) of the rows of a block (m, w) from a point (w,)."""
    result = np.empty(len(block))
    for start in range(0, len(block), ROWS):
        apart = block[start : start + ROWS] - point
        result[start : start + ROWS] = np.einsum("nd,nd->n", apart, apart)
    return result
