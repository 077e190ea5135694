"""The geometric median: RFA (Pillutla, Kakade, Harchaoui, IEEE TSP 2022, arXiv 1912.13445).

It is the vector whose distances to all updates have the least sum. The smoothed Weiszfeld
algorithm finds it: z ← Σ βᵢ gᵢ / Σ βᵢ with βᵢ = 1 / max(nu, ‖gᵢ - z‖). Every update counts
the same, however many samples its sender says it has.

z is always a mean of the updates with some weights a, so ‖gᵢ - z‖² follows from the products of
the updates with each other, G: Gᵢᵢ - 2 (Ga)ᵢ + aᵀGa. An iteration costs n², not n d. Where the
origin lies does not matter to it, so it is put into their midst, and no digits are lost to what
all have in common.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import AtLeastOne, Positive
from fedjury.rules.blocks import Wide, finite_rows, weighted_sum
from fedjury.rules.distances import centred_products
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples

TOLERANCE = 1e-10
"""Largest change of all weights together at which the iterations stop."""


@rule(compares_all=True)
def geometric_median(nu: Positive = 1e-6, iterations: AtLeastOne = 200) -> Rule:
    """Build the rule; ``nu``: distances count as at least that; ``iterations``: at most so many.

    Updates that are not finite are left out. The result is zero if no update is finite.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows = finite_rows(updates)
        weights = np.zeros(updates.n)
        if len(rows):
            weights[rows] = weiszfeld(centred_products(updates, rows), nu, iterations)
        return weighted_sum(updates, weights)

    return PartitionedRule(rule)


def weiszfeld(products: Wide, nu: float, iterations: int) -> Wide:
    """Return the weights (n,) of the geometric median, from their products (n, n)."""
    squares = products.diagonal()
    # From the mean, updates a million times too long would cost ten iterations; the shorter half
    # is never far off. Where it ends does not depend on where it starts.
    weights = (squares <= np.median(squares)).astype(np.float64)
    weights /= weights.sum()
    for _ in range(iterations):
        along = products @ weights
        distances = np.sqrt(np.maximum(0, squares - 2 * along + weights @ along))
        before = weights
        weights = 1 / np.maximum(nu, distances)
        weights /= weights.sum()
        if np.abs(weights - before).sum() < TOLERANCE:
            break
    return weights
