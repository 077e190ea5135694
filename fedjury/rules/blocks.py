"""Walking over the updates block by block in float64, never copying all of them.

In float64 no square of a float32 overflows, and no sum of such squares. Rows that are not finite
are never multiplied: 0 times inf is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix, Vector

Indices = npt.NDArray[np.intp]
Wide = npt.NDArray[np.float64]

BLOCK = 1 << 19
"""Elements looked at at a time: 4 MiB in float64."""


def norms(updates: Matrix) -> Wide:
    """Return the L2 norm of each row of (n, d) as (n,); it is finite only where the row is."""
    with np.errstate(invalid="ignore"):
        # einsum casts in small buffers; a norm by any other means would copy.
        squares: Wide = np.einsum("nd,nd->n", updates, updates, dtype=np.float64)
        return np.sqrt(squares)


def finite_rows(updates: Matrix) -> Indices:
    """Return which rows of (n, d) are finite, in order."""
    return np.flatnonzero(np.isfinite(norms(updates)))


def blocks(updates: Matrix, rows: Indices) -> Iterator[tuple[slice, Wide]]:
    """Yield columns and a copy (m, w) of them in these m ``rows``, until all d columns came."""
    n, d = updates.shape
    width = max(1, BLOCK // max(1, len(rows)))
    for start in range(0, d, width):
        columns = slice(start, start + width)
        block = updates[:, columns] if len(rows) == n else updates[rows, columns]
        yield columns, block.astype(np.float64)


def weighted_sum(updates: Matrix, weights: Wide) -> Vector:
    """Return Σ wᵢ gᵢ as (d,) float32; rows of weight zero, finite or not, are left out."""
    rows = np.flatnonzero(weights)
    total = np.zeros(updates.shape[1])
    for columns, block in blocks(updates, rows):
        total[columns] = weights[rows] @ block
    return narrow(total)


def mean_of(updates: Matrix, rows: Indices) -> Vector:
    """Return the mean (d,) of these rows of (n, d); zero of none."""
    weights = np.zeros(len(updates))
    weights[rows] = 1 / max(1, len(rows))
    return weighted_sum(updates, weights)


def clipped_mean(updates: Matrix, rows: Indices, lengths: Wide, bound: float) -> Vector:
    """Return the mean (d,) of these rows of (n, d), each clipped to the norm ``bound``.

    ``lengths``: the norms of all rows (n,).
    """
    longest = np.maximum(lengths[rows], bound)
    weights = np.zeros(len(updates))
    weights[rows] = np.divide(bound, longest, out=np.ones(len(rows)), where=longest > 0)
    return weighted_sum(updates, weights / len(rows))


def narrow(vector: Wide) -> Vector:
    """Return the vector in float32; what float32 cannot hold becomes inf, without a warning."""
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)
