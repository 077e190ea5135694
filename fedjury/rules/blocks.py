"""Walking over the updates block by block in float64, never copying all of them.

In float64 no square of a float32 overflows, and no sum of such squares. Rows that are not finite
are never multiplied: 0 times inf is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import Matrix, Vector
from fedjury.rules.partitions import Partitions

Indices = npt.NDArray[np.intp]
Wide = npt.NDArray[np.float64]

BLOCK = 1 << 19
"""Elements looked at at a time: 4 MiB in float64."""

BUFFER = 8192
"""Numbers that NumPy casts at a time. Rows that are no longer have the same sum, bit for bit, cast
a few at a time before, and that is quicker where they lie apart."""

ROWS = 64
"""Rows that are cast at a time."""

WIDE = 1024
"""Columns of a block at the least where each is multiplied by another of its size: a product of
narrow blocks costs more time in adding up n² numbers than in making them."""


def norms(updates: Partitions) -> Wide:
    """Return the L2 norm of each row of (n, d) as (n,); it is finite only where the row is."""
    return np.sqrt(updates.total(squares))


def squares(part: Matrix, first: int) -> Wide:  # noqa: ARG001
    """Return the squared norms (n,) of the rows of a partition."""
    n, width = part.shape
    with np.errstate(invalid="ignore"):
        if width > BUFFER:  # einsum casts, and adds up, piece by piece
            whole: Wide = np.einsum("nd,nd->n", part, part, dtype=np.float64)
            return whole
        result, room = np.empty(n), np.empty((min(n, ROWS), width))
        for start in range(0, n, ROWS):
            block = room[: n - start]
            block[:] = part[start : start + ROWS]
            np.einsum("nd,nd->n", block, block, out=result[start : start + ROWS])
    return result


def finite_rows(updates: Partitions) -> Indices:
    """Return which rows of (n, d) are finite, in order."""
    return np.flatnonzero(np.isfinite(norms(updates)))


def blocks(
    part: Matrix, rows: Indices, least: int = 1, size: int | None = None
) -> Iterator[tuple[slice, Wide]]:
    """Yield columns and a copy (m, w) of them in these m ``rows``, until all columns came.

    A copy is good until the next one. ``least``: how many columns at a time, however many the
    rows. ``size``: elements at a time, ``BLOCK`` if None.
    """
    (n, d), m = part.shape, len(rows)
    width = min(d, max(least, (BLOCK if size is None else size) // max(1, m)))
    room = np.empty(m * width)  # memory that is asked for again and again costs time
    for start in range(0, d, max(1, width)):
        columns = slice(start, min(start + width, d))
        block = room[: m * (columns.stop - start)].reshape(m, columns.stop - start)
        block[:] = part[:, columns] if m == n else part[rows, columns]
        yield columns, block


def zeros(updates: Partitions) -> Vector:
    """Return the update (d,) that changes nothing."""
    return np.zeros(updates.d, dtype=np.float32)


def within(columns: Indices, first: int, part: Matrix) -> Indices:
    """Return which of these columns of all, in order, are in a partition, counted from its own."""
    start, end = np.searchsorted(columns, (first, first + part.shape[1]))
    return columns[start:end] - first


def row_of(part: Matrix, first: int, row: int) -> Vector:  # noqa: ARG001
    """Return one row of a partition."""
    result: Vector = part[row].copy()
    return result


def weighted_sum(updates: Partitions, weights: Wide) -> Vector:
    """Return Σ wᵢ gᵢ as (d,) float32; rows of weight zero, finite or not, are left out."""
    total: Vector = updates.columns(weighted, weights)
    return total


def weighted(part: Matrix, first: int, weights: Wide) -> Vector:  # noqa: ARG001
    """Return that sum of a partition."""
    rows = np.flatnonzero(weights)
    total = np.zeros(part.shape[1])
    for columns, block in blocks(part, rows):
        total[columns] = weights[rows] @ block
    return narrow(total)


def mean_of(updates: Partitions, rows: Indices) -> Vector:
    """Return the mean (d,) of these rows of (n, d); zero of none."""
    weights = np.zeros(updates.n)
    weights[rows] = 1 / max(1, len(rows))
    return weighted_sum(updates, weights)


def clipped_mean(updates: Partitions, rows: Indices, lengths: Wide, bound: float) -> Vector:
    """Return the mean (d,) of these rows of (n, d), each clipped to the norm ``bound``.

    ``lengths``: the norms of all rows (n,).
    """
    longest = np.maximum(lengths[rows], bound)
    weights = np.zeros(updates.n)
    weights[rows] = np.divide(bound, longest, out=np.ones(len(rows)), where=longest > 0)
    return weighted_sum(updates, weights / len(rows))


def narrow(vector: Wide) -> Vector:
    """Return the vector in float32; what float32 cannot hold becomes inf, without a warning."""
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)
