"""Bucketing before a rule (Karimireddy, He, Jaggi, ICLR 2022).

The updates are shuffled, s at a time are averaged, and the rule is given the averages: they differ
less from each other than the updates did, but a Byzantine update spoils its whole bucket, so the
rule must withstand as many of ceil(n / s).
"""

from __future__ import annotations

import math

import numpy as np

from fedjury.learning.weights import Matrix
from fedjury.registry import pre_aggregation
from fedjury.rules.blocks import finite_rows, mean_of
from fedjury.rules.rule import Context, PreAggregation, Samples


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

    def apply(updates: Matrix, samples: Samples, context: Context) -> tuple[Matrix, Samples]:
        rows = finite_rows(updates)
        if not len(rows):
            return updates, samples
        shuffled = context.rng().permutation(rows)
        buckets = [shuffled[i : i + int(size)] for i in range(0, len(rows), int(size))]
        means = np.empty((len(buckets), updates.shape[1]), dtype=np.float32)
        for mean, bucket in zip(means, buckets, strict=True):
            mean[:] = mean_of(updates, np.sort(bucket))
        return means, np.array([samples[bucket].sum() for bucket in buckets])

    return apply
