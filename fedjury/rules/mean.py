"""The mean of the updates, plain or weighted by samples.

Weighted, it is federated averaging (McMahan et al., AISTATS 2017). One update of any size can
move it anywhere.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.rules.blocks import Wide
from fedjury.rules.partitions import PartitionedRule, Partitions, columnwise
from fedjury.rules.rule import Context, Rule, Samples


@rule(needs=["sum"])
def mean(weighted: bool = False) -> Rule:
    """Build the rule Σ nᵢ gᵢ / Σ nᵢ, with every nᵢ = 1 unless ``weighted``.

    The rule takes O(d) memory beside its input. Updates that are not finite make the result
    not finite, without a warning.

    Raises
    ------
    ValueError
        By the rule, if it is weighted and the samples do not add up to a positive number.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        weights = np.asarray(samples if weighted else np.ones(updates.n), dtype=np.float64)
        if not weights.sum() > 0:
            raise ValueError(f"the samples of {updates.n} updates add up to {weights.sum():g}")
        return updates.columns(averaged, weights / weights.sum())

    return PartitionedRule(rule)


@columnwise
def averaged(part: Matrix, first: int, shares: Wide) -> Vector:  # noqa: ARG001
    """Return the mean (w,) of a partition's rows, each with its share (n,) in it."""
    # inf - inf, or a result beyond float32, is a legal outcome of an attack.
    with np.errstate(all="ignore"):
        # einsum casts to float64 in small buffers; "@" would copy all of the updates.
        total: Wide = np.einsum("n,nd->d", shares, part)
        return total.astype(np.float32)
