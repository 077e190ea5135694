"""Nearest-neighbour mixing before a rule (Allouah et al., AISTATS 2023).

Each update becomes the mean of the n - f updates nearest to it, itself among them: honest updates
come closer together, and Byzantine ones no longer stand alone.
"""

from __future__ import annotations

import math

import numpy as np

from fedjury.learning.arrays import Matrix
from fedjury.registry import pre_aggregation
from fedjury.rules.blocks import WIDE, Indices, Wide, blocks, finite_rows, narrow
from fedjury.rules.distances import squared_distances
from fedjury.rules.partitions import PartitionedStep, Partitions
from fedjury.rules.rule import Context, PreAggregation, Samples


@pre_aggregation(compares_all=True)
def nnm(count: float) -> PreAggregation:
    """Build the step that reckons with ``count`` Byzantine updates, f.

    Updates that are not finite stay as they are, and are nobody's neighbours; with more than f of
    them, each other update becomes the mean of all that are finite.

    Raises
    ------
    ValueError
        If the count is not a whole number, or negative; by the step, if it is not less than n.
    """
    if not 0 <= count < math.inf or count != int(count):
        raise ValueError(f"nnm takes a whole number of Byzantine updates, not {count}")

    def apply(
        updates: Partitions, samples: Samples, context: Context
    ) -> tuple[Partitions, Samples]:
        n, rows = updates.n, finite_rows(updates)
        if count >= n and not context.excluded:
            raise ValueError(f"nnm cannot mix {n} updates of which {int(count)} are Byzantine")
        return mixed(updates, rows, min(len(rows), max(1, n - int(count)))), samples

    return PartitionedStep(apply)


def mixed(updates: Partitions, rows: Indices, nearest: int) -> Partitions:
    """Copy (n, d) with each of these rows replaced by the mean of the ``nearest`` of them."""
    distances = squared_distances(updates, rows)
    np.fill_diagonal(distances, -1)  # before whoever sent the very same
    chosen = distances.argsort(axis=1, kind="stable")[:, :nearest]
    shares = distances
    shares[:] = 0
    np.put_along_axis(shares, chosen, 1 / max(1, nearest), axis=1)
    return updates.map(mixed_by, updates.n, rows, shares)


def mixed_by(
    part: Matrix,
    first: int,  # noqa: ARG001
    out: Matrix,
    rows: Indices,
    shares: Wide,
) -> None:
    """Copy a partition with each of these m rows replaced by their sum with its shares (m, m)."""
    out[:] = part
    for columns, block in blocks(part, rows, WIDE):
        out[rows, columns] = narrow(shares @ block)
