"""Bucketing before a rule (Karimireddy, He, Jaggi, ICLR 2022).

The updates are shuffled, s at a time are averaged, and the rule is given the averages: they differ
less from each other than the updates did, but a Byzantine update spoils its whole bucket, so the
rule must withstand as many of ceil(n / s).
"""

from __future__ import annotations

import math

import numpy as np

from fedjury.learning.arrays import Matrix
from fedjury.registry import pre_aggregation
from fedjury.rules.blocks import Indices, finite_rows, narrow
from fedjury.rules.partitions import PartitionedStep, Partitions, columnwise
from fedjury.rules.rule import Context, PreAggregation, Samples

SIZE = 1 << 17
"""Elements averaged at a time: 1 MiB in float64, which stays in the cache."""


@pre_aggregation
def bucketing(size: float) -> PreAggregation:
    """Build the step that averages ``size`` updates at a time, the last bucket maybe fewer.

    The samples of a bucket are added up. Updates that are not finite are left out first; if none
    is finite, the rule is given all of them as they are.

    Raises
    ------
    ValueError
        If the size is not a whole number, or less than 1.
    """
    if not 1 <= size < math.inf or size != int(size):
        raise ValueError(f"bucketing takes a whole number of updates, at least 1, not {size}")

    def apply(
        updates: Partitions, samples: Samples, context: Context
    ) -> tuple[Partitions, Samples]:
        rows = finite_rows(updates)
        if not len(rows):
            return updates, samples
        shuffled = context.rng().permutation(rows)
        buckets = [shuffled[i : i + int(size)] for i in range(0, len(rows), int(size))]
        counts = np.array([samples[bucket].sum() for bucket in buckets])
        return updates.map(means_of, len(buckets), [np.sort(bucket) for bucket in buckets]), counts

    return PartitionedStep(apply)


@columnwise
def means_of(part: Matrix, first: int, out: Matrix, buckets: list[Indices]) -> None:  # noqa: ARG001
    """Fill in the mean of each bucket of rows of a partition.

    They are added one by one and not by a product, which rounds a column by where it stands.
    """
    height = min(len(buckets), max(1, SIZE // max(1, part.shape[1])))
    room = np.empty((height, part.shape[1]))
    for start in range(0, len(buckets), height):
        those = buckets[start : start + height]
        total = room[: len(those)]
        total[:] = part[[bucket[0] for bucket in those]]
        for place in range(1, len(those[0])):  # of all buckets only the last may be smaller
            rows = [bucket[place] for bucket in those if len(bucket) > place]
            total[: len(rows)] += part[rows]
        sizes = np.array([len(bucket) for bucket in those])
        out[start : start + height] = narrow(np.divide(total, sizes[:, None], out=total))
