"""The mean of the updates, plain or weighted by samples.

Weighted, it is federated averaging (McMahan et al., AISTATS 2017). One update of any size can
move it anywhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import rule
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

    def rule(updates: Matrix, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        weights = np.asarray(samples if weighted else np.ones(len(updates)), dtype=np.float64)
        if not weights.sum() > 0:
            raise ValueError(f"the samples of {len(updates)} updates add up to {weights.sum():g}")
        # inf - inf, or a result beyond float32, is a legal outcome of an attack.
        with np.errstate(all="ignore"):
            # einsum casts to float64 in small buffers; "@" would copy all of the updates.
            shares = weights / weights.sum()
            total: npt.NDArray[np.float64] = np.einsum("n,nd->d", shares, updates)
            return total.astype(np.float32)

    return rule
