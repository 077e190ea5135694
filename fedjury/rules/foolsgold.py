"""FoolsGold: who resembles another counts less (Fung, Yoon, Beschastnikh, RAID 2020).

Sybils serve one goal, so what they sent over the rounds points in one direction, and more so than
what honest agents with data of their own sent. From the cosines cᵢⱼ of all that agents sent so far,
vᵢ = maxⱼ cᵢⱼ; honest agents are pardoned for what they share with a sybil (cᵢⱼ vᵢ / vⱼ where
vⱼ > vᵢ); the weight is 1 - maxⱼ cᵢⱼ, in units of the largest, spread by κ (ln(a / (1 - a)) + 1/2)
and clipped to [0, 1].

The paper adds the weighted updates up; here they are averaged, so that the result is as long as an
update, whatever the number of agents. Negative cosines count as 0. All coordinates count the same.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import Positive
from fedjury.rules.blocks import Wide, finite_rows, weighted_sum
from fedjury.rules.distances import cosine_distances
from fedjury.rules.partitions import PartitionedRule, Partitions, as_partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(needs=["update_sums"], compares_all=True)
def foolsgold(confidence: Positive = 1.0) -> Rule:
    """Build the rule; ``confidence``: κ, how sharply the weights part.

    It looks at ``context.past`` plus the updates, or at the updates alone if there is no past. Who
    sent anything that is not finite is left out. If nobody is left, or all look like sybils of
    each other, nobody can be trusted: the result is zero.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows = finite_rows(updates)
        if context.update_sums is not None:
            rows = np.intersect1d(rows, finite_rows(as_partitions(context.update_sums)))
        weights = np.zeros(updates.n)
        if len(rows):
            weights[rows] = trust(cosine_distances(updates, rows, context.update_sums), confidence)
        return weighted_sum(updates, weights / (weights.sum() or 1))

    return PartitionedRule(rule)


def trust(apart: Wide, confidence: float) -> Wide:
    """Return the weights (n,), each in [0, 1], from 1 - cosine (n, n) of the histories.

    In these all digits count where all histories have much in common: so nothing is taken from 1.
    """
    apart = np.minimum(apart, 1)
    np.fill_diagonal(apart, 1)
    least = apart.min(axis=1)  # 1 - vᵢ
    # 1 - cᵢⱼ vᵢ / vⱼ, with all four numbers written as 1 less something.
    numerator = apart + (least[:, None] - least) - apart * least[:, None]
    pardoned = (least[:, None] > least) & (least < 1)
    alone: Wide = np.where(pardoned, numerator / np.where(least < 1, 1 - least, 1), apart).min(
        axis=1
    )
    alone[alone < EQUAL] = 0
    if not alone.any():
        return alone
    alone /= alone.max()
    with np.errstate(divide="ignore"):  # the ends of the logit are -inf and inf, clipped below
        spread = confidence * (np.log(alone / np.maximum(1 - alone, 0)) + 0.5)
    result: Wide = np.clip(spread, 0, 1)
    return result


EQUAL = 1e-14
"""Histories of one direction may be so far apart in float32, whose last digit is 6e-8."""
