"""Distances between the updates: what Krum, Bulyan, nearest-neighbour mixing and others choose by.

They come from products, ‖a - b‖² = ‖a‖² + ‖b‖² - 2 a·b, summed in float64, with an error of about
1e-15 (‖a‖² + ‖b‖²). Rows a million times as long beside them do no harm to the distances between
short ones. But what two rows have in common takes digits away: (1e6, 0) and (1e6, .1) are 1e-2
apart, and their products 1e12. So rows that are near each other beside their lengths are measured
again from one of them, and those of them that are near each other even so, once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from fedjury.learning.arrays import Matrix
from fedjury.rules.blocks import WIDE, Indices, Wide, blocks
from fedjury.rules.limit import within_limit
from fedjury.rules.partitions import Partitions, by_column

NEAR = 1e-6
"""Squared distance, as a share of ‖a‖² + ‖b‖², below which it is measured again."""

Measure = Callable[[Indices, int | None], Wide]
"""Rows (m,), and which of them is taken from all -> their products (m, m)."""


def squared_distances(updates: Partitions, rows: Indices) -> Wide:
    """Return the squared distances (m, m) between these m finite rows of (n, d)."""
    within_limit(len(rows), updates.count)
    return _measured(lambda *those: updates.total(products, *those), rows)


def cosine_distances(updates: Partitions, rows: Indices, past: Matrix | None = None) -> Wide:
    """Return 1 - cosine (m, m), from 0 to 2, of these m finite rows of (n, d) with each other.

    It is half the squared distance of rows made one long, which tells apart what a cosine near 1
    does not. A row of zeros has the cosine 0 with all. ``past``: (n, d), added to the updates.
    """
    within_limit(len(rows), updates.count)
    squares, added = np.zeros(updates.n), by_column(past)
    squares[rows] = updates.total(summed_squares, rows, added)
    inverse = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
    distances = _measured(lambda *those: updates.total(products, *those, added, inverse), rows)
    distances /= 2
    zero = squares[rows] == 0
    distances[zero] = distances[:, zero] = 1
    np.fill_diagonal(distances, 0)
    return np.minimum(distances, 2, out=distances)


def centred_products(updates: Partitions, rows: Indices) -> Wide:
    """Return the products (m, m) of these m finite rows, less the middle one of each column.

    So what all have in common is gone, and a minority of any size moves the centre nowhere.
    """
    within_limit(len(rows), updates.count)
    return updates.total(products_about_the_middle, rows)


def products(
    part: Matrix,
    first: int,  # noqa: ARG001
    rows: Indices,
    origin: int | None = None,
    past: Matrix | None = None,
    times: Wide | None = None,
) -> Wide:
    """Return the products (m, m) of these rows of a partition with each other.

    ``origin``: which of the m rows is taken from all. ``past``: (n, w), added before. ``times``:
    (n,), what each row is multiplied by before.
    """

    def read() -> Iterator[Wide]:
        for block in _summed(part, rows, past, WIDE):
            if times is not None:
                np.multiply(block, times[rows, np.newaxis], out=block)
            if origin is not None:
                np.subtract(block, block[origin].copy(), out=block)
            yield block

    return added_products(read(), len(rows))


def summed_squares(
    part: Matrix,
    first: int,  # noqa: ARG001
    rows: Indices,
    past: Matrix | None,
) -> Wide:
    """Return the squared norms (m,) of these rows of a partition, ``past`` (n, w) added."""
    result = np.zeros(len(rows))
    for block in _summed(part, rows, past):
        result += np.einsum("nd,nd->n", block, block)
    return result


def products_about_the_middle(part: Matrix, first: int, rows: Indices) -> Wide:  # noqa: ARG001
    """Return the products (m, m) of these rows of a partition, less the middle of each column."""

    def read() -> Iterator[Wide]:
        for _, block in blocks(part, rows, WIDE):
            values = block.T.copy()  # side by side, as NumPy's fast sort needs them
            values.sort(axis=1)
            yield np.subtract(block, values[:, (len(rows) - 1) // 2], out=block)

    return added_products(read(), len(rows))


def added_products(read: Iterable[Wide], m: int) -> Wide:
    """Return the sum (m, m) of the products of blocks (m, w) with themselves."""
    total: Wide | None = None
    product: Wide | None = None
    for block in read:
        if total is None:
            total = block @ block.T
            continue
        product = np.matmul(block, block.T, out=product)
        total += product
    return np.zeros((m, m)) if total is None else total


def _summed(part: Matrix, rows: Indices, past: Matrix | None, least: int = 1) -> Iterator[Wide]:
    for columns, block in blocks(part, rows, least):
        if past is not None:
            np.add(block, past[rows, columns], out=block)
        yield block


def _measured(measure: Measure, rows: Indices, origin: int | None = None) -> Wide:
    """Return the squared distances (m, m) between rows, measured from the one at ``origin``."""
    total = measure(rows, origin)
    squares = total.diagonal().copy()
    distances: Wide = np.multiply(total, -2, out=total if total.flags.writeable else None)
    del total
    sums = squares[:, None] + squares
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
        distances[inside] = _measured(measure, rows[group], middle)
    return distances


def _groups(near: np.ndarray) -> list[Indices]:
    """Return the rows that are connected by being near (m, m), group by group."""
    if not near.any():
        return []
    from scipy.sparse import csgraph, csr_array  # type: ignore[import-untyped] # noqa: PLC0415

    count, group = csgraph.connected_components(csr_array(near), directed=False)
    sizes = np.bincount(group, minlength=count)
    return [np.flatnonzero(group == which) for which in np.flatnonzero(sizes > 1)]
