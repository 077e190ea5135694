"""Centered clipping (Karimireddy, He, Jaggi, ICML 2021).

From the last accepted step v on, v ← v + mean of (gᵢ - v) min(1, τ / ‖gᵢ - v‖), a few times. One
update moves v by τ / n in an iteration, whatever it says. τ has to fit the updates: about the
length of an honest one. If it is much longer, Byzantine updates weigh more than honest ones; much
shorter, and v lags behind.

v is always a sum of the updates with some weights and of where it started. So an iteration tells
the partitions the weights, and looks at each update once: its distance is added up over columns.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.registry.bounds import AtLeastOne, Positive
from fedjury.rules.blocks import Indices, Wide, blocks, narrow
from fedjury.rules.partitions import ByColumn, PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples

SIZE, LEAST = 1 << 17, 128
"""Elements of a block, and columns at the least: four steps on 1 MiB, which stays in the cache."""


@rule
def centered_clipping(tau: Positive = 1.0, iterations: AtLeastOne = 3) -> Rule:
    """Build the rule; ``tau``: the length differences are clipped to, an L2 norm.

    It starts from ``context.previous``, or from zero if there is none that is finite. Updates that
    are not finite are left out; if none is finite, the result is where it started.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        previous = context.previous
        usable = previous is not None and bool(np.isfinite(previous).all())
        start = np.array(previous if usable else np.zeros(updates.d), dtype=np.float64)
        begin = ByColumn(start)
        squares = updates.total(from_centre, None, np.zeros(updates.n), 1.0, begin)
        rows = np.flatnonzero(np.isfinite(squares))
        if not len(rows):
            return narrow(start)
        weights, kept, squares = np.zeros(len(rows)), 1.0, squares[rows]
        for iteration in range(iterations):
            if iteration:
                squares = updates.total(from_centre, rows, weights, kept, begin)
            pull = tau / np.maximum(tau, np.sqrt(squares)) / len(rows)
            weights = (1 - pull.sum()) * weights + pull
            kept *= 1 - pull.sum()
        return updates.columns(centre_of, rows, weights, kept, begin)

    return PartitionedRule(rule)


def from_centre(
    part: Matrix,
    first: int,  # noqa: ARG001
    rows: Indices | None,
    weights: Wide,
    kept: float,
    start: Wide,
) -> Wide:
    """Return the squared distances (m,) of these rows of a partition, None: of all, from a centre.

    It is Σ wᵢ gᵢ + ``kept`` ``start``: only m numbers tell a partition where it has moved to.
    """
    those = np.arange(len(part)) if rows is None else rows
    result = np.zeros(len(those))
    with np.errstate(invalid="ignore"):  # of rows that are not finite
        for columns, block in blocks(part, those, LEAST, SIZE):
            centre = _centre(block, weights, kept, start[columns])
            np.subtract(block, centre, out=block)
            result += np.einsum("nd,nd->n", block, block)
    return result


def centre_of(
    part: Matrix,
    first: int,  # noqa: ARG001
    rows: Indices,
    weights: Wide,
    kept: float,
    start: Wide,
) -> Vector:
    """Return that centre (w,)."""
    result = np.empty(part.shape[1], dtype=np.float32)
    for columns, block in blocks(part, rows):
        result[columns] = narrow(_centre(block, weights, kept, start[columns]))
    return result


def _centre(block: Wide, weights: Wide, kept: float, start: Wide) -> Wide:
    centre = kept * start
    if weights.any():
        centre += weights @ block
    return centre
