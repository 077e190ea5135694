"""Krum: the update that is nearest to its neighbours (Blanchard et al., NeurIPS 2017).

With f Byzantine ones among n >= 2f + 3 updates, the score of an update is the sum of its squared
distances to the n - f - 2 updates nearest to it, and the one of least score is the result.

Updates that are not finite are surely Byzantine: they are left out, and n and f shrink by their
number, which leaves the number of neighbours as it was.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.rules.blocks import Indices, Wide, finite_rows, row_of, zeros
from fedjury.rules.byzantine import byzantine
from fedjury.rules.distances import squared_distances
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(compares_all=True)
def krum(count: int | None = None, share: float | None = None) -> Rule:
    """Build the rule that reckons with ``count`` Byzantine updates, or with a ``share`` (0.2).

    An f from the share is lowered to (n - 3) / 2 where it is larger. Of equal scores the first
    row's counts. The result is zero if no update is finite.

    Raises
    ------
    ValueError
        If both are given or one is out of range; by the rule, if n < 2 ``count`` + 3.
    """
    number = byzantine("Krum", count, share, times=2, plus=3)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        order = by_score(updates, number(updates.n, context.excluded))
        return updates.columns(row_of, int(order[0])) if len(order) else zeros(updates)

    return PartitionedRule(rule)


def by_score(updates: Partitions, f: int) -> Indices:
    """Return the finite rows of (n, d), those of the least score first."""
    rows = finite_rows(updates)
    lost = updates.n - len(rows)
    return rows[np.argsort(scores(squared_distances(updates, rows), f - lost), kind="stable")]


def scores(distances: Wide, f: int) -> Wide:
    """Return Krum's scores (n,) from squared distances (n, n); f below 0 counts as 0.

    At least one neighbour counts, if there is one.
    """
    n = len(distances)
    neighbours = max(1, n - max(0, f) - 2)
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    others.sort(axis=1)
    nearest: Wide = others[:, : min(neighbours, n - 1)].sum(axis=1)
    return nearest
