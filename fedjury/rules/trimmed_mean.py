"""The coordinate-wise trimmed mean (Yin et al., ICML 2018).

In each coordinate the k largest and the k smallest values are dropped and the rest averaged.

How many a share means is said in ``byzantine``; at most as many as leave something, (n - 1) / 2.

NaN counts as the largest value of all, above +inf. Up to k updates that are not finite cannot
make the result so: they sort to the ends, and each end loses k values.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.rules.byzantine import byzantine
from fedjury.rules.partitions import PartitionedRule, Partitions, columnwise
from fedjury.rules.rule import Context, Rule, Samples

BLOCK = 1 << 20
"""Elements sorted at a time (4 MiB): stays in cache and bounds the extra memory."""


@rule
def trimmed_mean(count: int | None = None, share: float | None = None) -> Rule:
    """Build the rule that trims ``count`` values at each end, or a ``share`` of them (0.2).

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the rule, if nothing would be left
        although nobody is left out as flagged.
    """
    number = byzantine("trimmed mean", count, share, times=2, plus=1)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        lowered = count is None or context.excluded
        return updates.columns(trimmed, number(updates.n, context.excluded) if lowered else count)

    return PartitionedRule(rule)


@columnwise
def trimmed(part: Matrix, first: int, k: int) -> Vector:  # noqa: ARG001
    """Trim a partition (n, w) of the updates; returns (w,). Raises as ``trim``."""
    return trim(part, k)


def trim(updates: Matrix, k: int) -> Vector:
    """Drop the k largest and k smallest of each column of (n, d), average the rest into (d,).

    Raises
    ------
    ValueError
        If 2k < n does not hold.
    """
    n, d = updates.shape
    if 2 * k >= n:
        raise ValueError(f"trimming {k} at each end leaves nothing of {n} updates")
    result = np.empty(d, dtype=np.float32)
    width = max(1, BLOCK // n)
    # Sums in float64: two values near the end of float32 do not overflow. Only where more
    # than k updates are not finite does inf meet -inf.
    with np.errstate(all="ignore"):
        for start in range(0, d, width):
            columns = slice(start, start + width)
            # NumPy's vectorised sort needs each column's values side by side in memory.
            block = updates[:, columns].T.copy()
            block.sort(axis=1)
            result[columns] = block[:, k : n - k].mean(axis=1, dtype=np.float64)
    return result
