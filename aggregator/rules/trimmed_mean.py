"""The coordinate-wise trimmed mean (Yin et al., ICML 2018).

In each coordinate the k largest and the k smallest values are dropped and the rest averaged.

Trimming by share rounds down, k = floor(share n), after a nudge of 1e-9: a share that means a
whole number of updates gives that number, although 0.29 * 100 is 28.999999999999996 in
floating point. Public code differs here: some truncates without the nudge, some rounds to the
nearest, some takes ``share`` for both ends together. Give ``count`` where it matters.

NaN counts as the largest value of all, above +inf. Up to k updates that are not finite cannot
make the result so: they sort to the ends, and each end loses k values.
"""

from __future__ import annotations

import math

import numpy as np

from aggregator.rules.rule import Context, Rule, Samples
from learning.weights import Matrix, Vector

BLOCK = 1 << 20
"""Elements sorted at a time (4 MiB): stays in cache and bounds the extra memory."""


def trimmed_mean(count: int | None = None, share: float | None = None) -> Rule:
    """Build the rule that trims ``count`` values at each end, or a ``share`` of them (0.2).

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the rule, if nothing would be left
        although nobody is left out as suspected.
    """
    share = checked_share("trimmed mean", count, share)

    def rule(updates: Matrix, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        n = len(updates)
        if count is None:
            return trim(updates, trimmed_count(n, share))
        return trim(updates, min(count, (n - 1) // 2) if context.out else count)

    return rule


def checked_share(rule: str, count: int | None, share: float | None) -> float:
    """Return the share, 0.2 if none is given, of a rule that goes by a count or by a share.

    Raises
    ------
    ValueError
        If both are given or one is out of range.
    """
    if count is not None and share is not None:
        raise ValueError(f"{rule}: by a count ({count}) or a share ({share}), not by both")
    share = 0.2 if share is None else share
    if not 0 <= share < 0.5:
        raise ValueError(f"{rule}: the share must lie in [0, 0.5), not {share}")
    if count is not None and count < 0:
        raise ValueError(f"{rule}: the count must not be negative, not {count}")
    return share


def trimmed_count(n: int, share: float) -> int:
    """Say how many of ``n`` values a share means at each end: rounded down, see above."""
    return math.floor(share * n + 1e-9)


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
