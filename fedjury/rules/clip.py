"""Norm clipping before a rule (Sun et al., arXiv 1911.07963, 2019).

Each update becomes g / max(1, ‖g‖₂ / M). An update that is not finite has no direction to keep
and becomes zero: it still counts as an update, but says nothing.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.weights import Matrix
from fedjury.registry import pre_aggregation
from fedjury.rules.rule import Context, PreAggregation, Samples

BLOCK = 1 << 20
"""Elements clipped at a time: 8 MiB in float64."""


@pre_aggregation
def clip(bound: float) -> PreAggregation:
    """Build the step that clips each update to the norm ``bound``.

    Raises
    ------
    ValueError
        If the bound is not positive.
    """
    if not bound > 0:
        raise ValueError(f"the norm must be clipped to a positive bound, not {bound}")

    def apply(updates: Matrix, samples: Samples, context: Context) -> tuple[Matrix, Samples]:  # noqa: ARG001
        return clip_rows(updates, bound), samples

    return apply


def clip_rows(updates: Matrix, bound: float) -> Matrix:
    """Copy (n, d) with every row longer than ``bound`` scaled down to it, non-finite rows zero."""
    result = np.empty(updates.shape, dtype=np.float32)
    rows = max(1, BLOCK // updates.shape[1])
    for start in range(0, len(updates), rows):
        # In float64 the square of no float32 overflows, nor does a tiny scale vanish.
        block = updates[start : start + rows].astype(np.float64)
        block[~np.isfinite(block).all(axis=1)] = 0
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        result[start : start + rows] = block / np.maximum(1, norms / bound)[:, None]
    return result
