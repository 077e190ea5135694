"""Sums that come to the same bits everywhere.

Numbers with a fraction are rounded after each addition, so their sum depends on the order. A
library chooses the order by the processor and by how an array lies in memory; here it is given.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def in_order(values: Array) -> Array:
    """Add up along the last axis, (..., n) -> (...), from the first to the last."""
    result: Array = np.cumsum(values, axis=-1)[..., -1]
    return result


def mean(values: Array) -> Array:
    """Average along the last axis, (..., n) -> (...), added up in order."""
    result: Array = in_order(values) / values.shape[-1]
    return result


def deviation(values: Array) -> Array:
    """Compute the standard deviation (by n - 1) along the last axis, added up in order."""
    apart = values - mean(values)[..., np.newaxis]
    result: Array = np.sqrt(in_order(apart * apart) / (values.shape[-1] - 1))
    return result
