"""The mean of updates that are clipped to the median of their norms.

Norm clipping (Sun et al., arXiv 1911.07963, 2019) bounds what one update can do, but its bound M is
a number that fits one network, one data set and one phase of training. Here M is the median of the
round's norms, as in FLAME (Nguyen et al., USENIX Security 2022) and SignGuard (Xu et al., ICDCS
2022): as long as most agents are honest, M is the length of an honest update.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import Positive
from fedjury.rules.blocks import clipped_mean as mean_of_clipped
from fedjury.rules.blocks import norms, zeros
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule
def clipped_mean(factor: Positive = 1.0) -> Rule:
    """Build the rule; ``factor``: the longest update let through whole, in median norms.

    The result is Σ gᵢ min(1, factor · M / ‖gᵢ‖) / n over the n updates that are finite, with M the
    median of the norms that are not zero. If none is finite, or all are zero, it is zero.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        lengths = norms(updates)
        rows = np.flatnonzero(np.isfinite(lengths))
        values = lengths[rows][lengths[rows] > 0]
        if not len(values):
            return zeros(updates)
        return mean_of_clipped(updates, rows, lengths, factor * float(np.median(values)))

    return PartitionedRule(rule)
