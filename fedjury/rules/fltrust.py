"""FLTrust: trust in who points where the server's own update does (Cao et al., NDSS 2021).

With g₀ the update that the server trained on its own data, the trust in an update is
tᵢ = max(0, cos(gᵢ, g₀)), and the result Σ tᵢ ‖g₀‖ gᵢ / ‖gᵢ‖ / Σ tᵢ: every update is made as long
as the server's.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.arrays import Matrix, Vector
from fedjury.registry import rule
from fedjury.rules.blocks import Wide, norms, weighted_sum, zeros
from fedjury.rules.partitions import ByColumn, PartitionedRule, Partitions
from fedjury.rules.rule import Context, Rule, Samples


@rule(needs=["server_update"])
def fltrust() -> Rule:
    """Build the rule.

    Updates that are zero or not finite are not trusted. If no update is trusted, or the server's
    own is zero or not finite, the result is zero.

    Raises
    ------
    ValueError
        By the rule, if ``context.own`` is None.
    """

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        if context.server_update is None:
            raise ValueError("FLTrust needs an update of the server's own, and was given none")
        own = context.server_update.astype(np.float64)
        length, lengths = float(np.linalg.norm(own)), norms(updates)
        known = np.isfinite(lengths) & (lengths > 0)
        safe = np.where(known, lengths, 1)
        with np.errstate(all="ignore"):
            along = updates.total(along_server, ByColumn(own)) / safe
        trust = np.where(known & (along > 0), along, 0)
        if not (0 < length < np.inf and trust.any()):
            return zeros(updates)
        # The own length cancels out of a weighted mean of cosines.
        return weighted_sum(updates, trust / trust.sum() * length / safe)

    return PartitionedRule(rule)


def along_server(part: Matrix, first: int, server: Wide) -> Wide:  # noqa: ARG001
    """Return the products (n,) of a partition's rows with the server's own update there (w,)."""
    with np.errstate(all="ignore"):
        result: Wide = np.einsum("nd,d->n", part, server)
    return result
