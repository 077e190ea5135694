"""Distances between the updates: what Krum, Bulyan, nearest-neighbour mixing and others choose by.

They come from products, ‖a - b‖² = ‖a‖² + ‖b‖² - 2 a·b, summed in float64, with an error of about
1e-15 (‖a‖² + ‖b‖²). Rows a million times as long beside them do no harm to the distances between
short ones. But what two rows have in common takes digits away: (1e6, 0) and (1e6, .1) are 1e-2
apart, and their products 1e12. So rows that are near each other beside their lengths are measured
again from one of them, and those of them that are near each other even so, once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from fedjury.learning.weights import Matrix
from fedjury.rules.blocks import Indices, Wide, blocks

NEAR = 1e-6
"""Squared distance, as a share of ‖a‖² + ‖b‖², below which it is measured again."""

Reader = Callable[[Indices], Iterator[tuple[slice, Wide]]]
"""Rows (m,) -> slices of columns, and what stands in them (m, w)."""


def squared_distances(updates: Matrix, rows: Indices) -> Wide:
    """Return the squared distances (m, m) between these m finite rows of (n, d)."""
    return _measured(partial(blocks, updates), rows)


def cosine_distances(updates: Matrix, rows: Indices, past: Matrix | None = None) -> Wide:
    """Return 1 - cosine (m, m), from 0 to 2, of these m finite rows of (n, d) with each other.

    It is half the squared distance of rows made one long, which tells apart what a cosine near 1
    does not. A row of zeros has the cosine 0 with all. ``past``: (n, d), added to the updates.
    """

    def read(values: Indices) -> Iterator[tuple[slice, Wide]]:
        for columns, block in blocks(updates, values):
            yield (
                columns,
                block if past is None else np.add(block, past[values, columns], out=block),
            )

    squares = np.zeros(len(updates))
    for _, block in read(rows):
        squares[rows] += np.einsum("nd,nd->n", block, block)
    inverse = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)

    def directions(values: Indices) -> Iterator[tuple[slice, Wide]]:
        for columns, block in read(values):
            yield columns, np.multiply(block, inverse[values, np.newaxis], out=block)

    distances = _measured(directions, rows)
    distances /= 2
    zero = squares[rows] == 0
    distances[zero] = distances[:, zero] = 1
    np.fill_diagonal(distances, 0)
    return np.minimum(distances, 2, out=distances)


def centred_products(updates: Matrix, rows: Indices) -> Wide:
    """Return the products (m, m) of these m finite rows, less the middle one of each column.

    So what all have in common is gone, and a minority of any size moves the centre nowhere.
    """
    total = np.zeros((len(rows), len(rows)))
    for _, block in blocks(updates, rows):
        values = block.T.copy()  # side by side, as NumPy's fast sort needs them
        values.sort(axis=1)
        np.subtract(block, values[:, (len(rows) - 1) // 2], out=block)
        total += block @ block.T
    return total


def _measured(read: Reader, rows: Indices, origin: int | None = None) -> Wide:
    """Return the squared distances (m, m) between rows, measured from the one at ``origin``."""
    distances = np.zeros((len(rows), len(rows)))
    for _, block in read(rows):
        if origin is not None:
            np.subtract(block, block[origin].copy(), out=block)
        distances += block @ block.T
    squares = distances.diagonal().copy()
    sums = squares[:, None] + squares
    distances *= -2
    distances += sums
    np.fill_diagonal(distances, 0)
    sums *= NEAR
    near = distances < sums  # never of the origin itself, so that each time fewer are left
    np.fill_diagonal(near, val=False)
    np.maximum(distances, 0, out=distances)
    for group in _groups(near):
        inside = np.ix_(group, group)
        # From where most are: who is far off blurs only its own distances.
        middle = int(np.median(distances[inside], axis=1).argmin())
        distances[inside] = _measured(read, rows[group], middle)
    return distances


def _groups(near: np.ndarray) -> list[Indices]:
    """Return the rows that are connected by being near (m, m), group by group."""
    if not near.any():
        return []
    from scipy.sparse import csgraph, csr_array  # type: ignore[import-untyped] # noqa: PLC0415

    count, group = csgraph.connected_components(csr_array(near), directed=False)
    sizes = np.bincount(group, minlength=count)
    return [np.flatnonzero(group == which) for which in np.flatnonzero(sizes > 1)]
