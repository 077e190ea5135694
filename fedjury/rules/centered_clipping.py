"""Centered clipping (Karimireddy, He, Jaggi, ICML 2021).

From the last accepted step v on, v ← v + mean of (gᵢ - v) min(1, τ / ‖gᵢ - v‖), a few times. One
update moves v by τ / n in an iteration, whatever it says. τ has to fit the updates: about the
length of an honest one. If it is much longer, Byzantine updates weigh more than honest ones; much
shorter, and v lags behind.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import rule
from fedjury.registry.bounds import AtLeastOne, Positive
from fedjury.rules.blocks import BLOCK, Indices, Wide, finite_rows, narrow
from fedjury.rules.rule import Context, Rule, Samples


@rule
def centered_clipping(tau: Positive = 1.0, iterations: AtLeastOne = 3) -> Rule:
    """Build the rule; ``tau``: the length differences are clipped to, an L2 norm.

    It starts from ``context.previous``, or from zero if there is none that is finite. Updates that
    are not finite are left out; if none is finite, the result is where it started.
    """

    def rule(updates: Matrix, samples: Samples, context: Context) -> Vector:  # noqa: ARG001
        rows, previous = finite_rows(updates), context.previous
        usable = previous is not None and bool(np.isfinite(previous).all())
        centre = np.array(previous if usable else np.zeros(updates.shape[1]), dtype=np.float64)
        for _ in range(iterations):
            centre += pull(updates, rows, centre, tau)
        return narrow(centre)

    return rule


def pull(updates: Matrix, rows: Indices, centre: Wide, tau: float) -> Wide:
    """Return the mean (d,) of the clipped differences between these rows and the centre (d,)."""
    total = np.zeros_like(centre)
    height = max(1, BLOCK // len(centre))
    for start in range(0, len(rows), height):
        block = updates[rows[start : start + height]].astype(np.float64)
        block -= centre
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        total += tau / np.maximum(tau, lengths) @ block
    return total / max(1, len(rows))
