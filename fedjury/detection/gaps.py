"""Whether numbers on a line fall into two clusters, and where one ends (for FLDetector).

The Gap statistic (Tibshirani, Walther, Hastie 2001) compares how much a clustering into k gains
with what it gains on uniform numbers: one cluster is enough if Gap(1) >= Gap(2) - s_2. On a line
the best two clusters are found exactly, without a draw: they are cut somewhere in sorted order.
"""

from __future__ import annotations

import numpy as np

from fedjury.detection.rows import Floats
from fedjury.randomness import Purpose, stream

REFERENCES = 20
"""Sets of uniform numbers; drawn from the same seed each time."""


def boundary(values: Floats) -> float | None:
    """Return the middle between two clusters of (n,) values; None if one is enough."""
    low, high = values.min(), values.max()
    if len(values) < 3 or not high > low:
        return None
    ordered = np.sort((values - low) / (high - low))
    within, cut = _dispersions(ordered)
    rng = stream(0, Purpose.GAP)
    uniform = np.sort(rng.random((REFERENCES, len(values))), axis=1)
    logs = np.log([_dispersions(reference)[0] for reference in uniform])
    with np.errstate(divide="ignore"):
        gaps = logs.mean(axis=0) - np.log(within)
    error = logs[:, 1].std() * np.sqrt(1 + 1 / REFERENCES)
    if gaps[0] >= gaps[1] - error:
        return None
    return float(low + (high - low) * (ordered[cut - 1] + ordered[cut]) / 2)


def _dispersions(ordered: Floats) -> tuple[tuple[float, float], int]:
    """Return the sums of squares within one cluster and within the best two, and where to cut.

    ``ordered``: (n,), ascending.
    """
    n = np.arange(1, len(ordered) + 1)
    sums, squares = ordered.cumsum(), (ordered**2).cumsum()
    left = squares - sums**2 / n
    right = (squares[-1] - squares[:-1]) - (sums[-1] - sums[:-1]) ** 2 / n[-2::-1]
    split = left[:-1] + right
    cut = int(split.argmin())
    return (float(left[-1]), max(float(split[cut]), 0.0)), cut + 1
