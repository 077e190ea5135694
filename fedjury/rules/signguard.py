"""SignGuard: filter by norm and by signs, then average what is clipped (Xu et al., ICDCS 2022).

Two filters, and who passes both is averaged, clipped to the median M of the norms. The first lets
norms from 0.1 M to 3 M pass. The second draws a tenth of the coordinates and counts, for each
update, the shares of positive, zero and negative signs; mean shift groups the updates by these
three numbers, and the largest group passes.

The shares are taken as they are. The authors' code divides each by its largest value, which turns
a few zeros more or less into the most telling number of all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.registry.bounds import Part
from fedjury.rules.blocks import (
    BLOCK,
    Indices,
    Wide,
    clipped_mean,
    finite_rows,
    norms,
    within,
    zeros,
)
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule
def signguard(low: float = 0.1, high: float = 3.0, coordinates: Part = 0.1) -> Rule:
    """Build the rule; ``low`` and ``high``: which norms pass, in units of the median norm.

    ``coordinates``: share of the coordinates that is drawn. Updates that are not finite are left
    out; if none is finite, the result is zero. If nobody passes both filters, the first decides.

    Raises
    ------
    ValueError
        If the bounds do not enclose the median.
    """
    if not 0 <= low <= 1 <= high:
        raise ValueError(f"the norms let through must enclose the median, not [{low}, {high}]")

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows = finite_rows(updates)
        if not len(rows):
            return zeros(updates)
        d = updates.d
        lengths = norms(updates)
        median = float(np.median(lengths[rows]))
        fitting = (lengths[rows] >= low * median) & (lengths[rows] <= high * median)
        drawn = context.rng().choice(d, max(1, round(coordinates * d)), replace=False)
        both = fitting & largest_group(signs(updates, rows, np.sort(drawn)))
        inside = rows[both if both.any() else fitting]
        return clipped_mean(updates, inside, lengths, median)

    return PartitionedRule(rule)


def signs(updates: Partitions, rows: Indices, columns: Indices) -> Wide:
    """Return the shares (m, 3) of positive, zero and negative values of rows in these columns."""
    counts: Wide = updates.total(counted_signs, rows, columns)
    return counts / len(columns)


def counted_signs(part: Matrix, first: int, rows: Indices, columns: Indices) -> Wide:
    """Return how many of these values are positive, zero and negative in a partition, (m, 3)."""
    counts = np.zeros((len(rows), 3))
    inside = within(columns, first, part)
    width = max(1, BLOCK // len(rows))
    for start in range(0, len(inside), width):
        block = part[np.ix_(rows, inside[start : start + width])]
        for place, message in enumerate((block > 0, block == 0, block < 0)):
            counts[:, place] += message.sum(axis=1)
    return counts


def largest_group(features: Wide) -> npt.NDArray[np.bool_]:
    """Say which of n points (n, 3) are in the largest group that mean shift finds, as (n,)."""
    from sklearn.cluster import MeanShift, estimate_bandwidth  # noqa: PLC0415 - a second to import

    everybody = np.ones(len(features), dtype=bool)
    if len(features) < 4:  # the bandwidth would be the distance of each to itself
        return everybody
    bandwidth = estimate_bandwidth(features, quantile=0.5)
    if not bandwidth > 0:  # most are the very same
        values, group, sizes = np.unique(features, axis=0, return_inverse=True, return_counts=True)
        return np.asarray(group.reshape(-1) == sizes.argmax()) if len(values) > 1 else everybody
    # One seed a cell of a grid, as scikit-learn has it, whose own way warns of thin grids.
    seeds = np.unique(np.round(features / bandwidth), axis=0) * bandwidth
    result = MeanShift(bandwidth=bandwidth, seeds=seeds, cluster_all=False).fit(features).labels_
    if not (result >= 0).any():
        return everybody
    return np.asarray(result == np.bincount(result[result >= 0]).argmax())
