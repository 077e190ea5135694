"""Norm clipping before a rule (Sun et al., arXiv 1911.07963, 2019).

Each update becomes g / max(1, ‖g‖₂ / M). An update that is not finite has no direction to keep
and becomes zero: it still counts as an update, but says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedjury.learning.arrays import Matrix
from fedjury.registry import pre_aggregation
from fedjury.rules.blocks import Wide
from fedjury.rules.partitions import PartitionedStep, Partitions, columnwise
from fedjury.rules.rule import Context, PreAggregation, Samples

BLOCK = 1 << 17
"""Elements clipped at a time: 1 MiB in float64, which stays in the cache."""


@pre_aggregation
def clip(bound: float) -> PreAggregation:
    """Build the step that clips each update to the norm ``bound``.

    Raises
    ------
    ValueError
        If the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"the norm must be clipped to a positive bound, not {bound}")

    def apply(
        updates: Partitions,
        samples: Samples,
        context: Context,  # noqa: ARG001
    ) -> tuple[Partitions, Samples]:
        return clip_rows(updates, bound), samples

    return PartitionedStep(apply)


def clip_rows(updates: Partitions, bound: float) -> Partitions:
    """Copy (n, d) with every row longer than ``bound`` scaled down to it, non-finite rows zero."""
    norms = np.sqrt(updates.total(squares))
    by = np.full(updates.n, np.inf)
    np.maximum(1, norms / bound, out=by, where=np.isfinite(norms))
    return updates.map(shorter, updates.n, by)


def squares(part: Matrix, first: int) -> Wide:  # noqa: ARG001
    """Return the squared norms (n,) of the rows of a partition; finite only where the row is."""
    result = np.empty(len(part))
    for rows, block in _rows(part):
        # In float64 the square of no float32 overflows, nor does a tiny scale vanish.
        with np.errstate(invalid="ignore"):
            result[rows] = np.einsum("nd,nd->n", block, block)
    return result


@columnwise
def shorter(part: Matrix, first: int, out: Matrix, by: Wide) -> None:  # noqa: ARG001
    """Divide each row of a partition by its number (n,); by infinity, whatever it is, it is 0."""
    for rows, block in _rows(part):
        block[np.isinf(by[rows])] = 0
        out[rows] = np.divide(block, by[rows, np.newaxis], out=block)


def _rows(part: Matrix) -> Iterator[tuple[slice, Wide]]:
    """Yield rows and a copy (m, w) of them, good until the next ones, until all came."""
    height = min(len(part), max(1, BLOCK // max(1, part.shape[1])))
    room = np.empty((height, part.shape[1]))  # memory that is asked for again and again costs time
    for start in range(0, len(part), height):
        rows = slice(start, min(start + height, len(part)))
        block = room[: rows.stop - start]
        block[:] = part[rows]
        yield rows, block
