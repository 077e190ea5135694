"""The coordinate-wise median (Yin et al., ICML 2018).

Of an even number of values it is the mean of the two in the middle. With b of n updates
corrupt and 2b < n, every coordinate lies between the smallest and the largest honest value,
whatever the corrupt ones say: inf and NaN (which sorts above +inf) included.
"""

from __future__ import annotations

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples
from fedjury.rules.trimmed_mean import trimmed


@rule
def median() -> Rule:
    """Build the rule: the median of each column of (n, d)."""

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        # The median is the trimmed mean that leaves only the middle: one value, or two.
        return updates.columns(trimmed, (updates.n - 1) // 2)

    return PartitionedRule(rule)
