"""FLAME: filter by direction, clip to the median norm, add noise (Nguyen et al., USENIX 2022).

HDBSCAN groups the updates by their cosine distances into at most one cluster of more than half of
them; who is outside is left out. The rest is clipped to the median S of all norms and averaged, and
Gaussian noise of standard deviation λ S is added to each coordinate.

The paper takes the angles between local models, global model included. A rule sees updates alone,
whose angles say more: two models differ little from each other once they are trained.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import NotNegative
from fedjury.rules.blocks import Indices, clipped_mean, finite_rows, narrow, norms, zeros
from fedjury.rules.distances import cosine_distances
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(compares_all=True)
def flame(noise: NotNegative = 0.001) -> Rule:
    """Build the rule; ``noise``: λ, the noise's standard deviation in units of the median norm.

    Updates that are not finite are left out; if none is finite, the result is zero. If there is
    no cluster, everybody is in, clipped.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows = finite_rows(updates)
        if not len(rows):
            return zeros(updates)
        lengths = norms(updates)
        median = float(np.median(lengths[rows]))
        inside = rows[majority(updates, rows)]
        mean = clipped_mean(updates, inside, lengths, median).astype(np.float64)
        return narrow(mean + noise * median * context.rng().standard_normal(len(mean)))

    return PartitionedRule(rule)


def majority(updates: Partitions, rows: Indices) -> Indices:
    """Return which of these finite rows of (n, d) belong to the cluster of most; all if none is."""
    from sklearn.cluster import HDBSCAN  # noqa: PLC0415 - a second to import

    n = len(rows)
    if n <= 2:  # two updates have no majority, and HDBSCAN needs more
        return np.arange(n)
    result = HDBSCAN(
        min_cluster_size=n // 2 + 1,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    ).fit(cosine_distances(updates, rows))
    inside = np.flatnonzero(result.labels_ >= 0)
    return inside if len(inside) else np.arange(n)
