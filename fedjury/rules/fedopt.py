"""FedOpt: adaptive server optimisers over any rule (Reddi et al., ICLR 2021, arXiv 2003.00295).

With Δ, what the rule ``base`` makes of the updates: m ← β₁ m + (1 - β₁) Δ, and the model goes by
m / (√v + τ). FedAdam has v ← β₂ v + (1 - β₂) Δ², FedYogi v ← v - (1 - β₂) Δ² sign(v - Δ²), which
grows and shrinks more slowly. Both begin with m = 0 and v = τ², and correct no bias, as the paper
has it. A step's length no longer follows that of the updates: ``aggregation.server_lr`` is the
step size, about .01. Only accepted rounds count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjury.learning.arrays import Vector
from fedjury.registry import rule
from fedjury.registry.bounds import BelowOne, Positive
from fedjury.rules.based import plain_rule
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Samples, StatefulRule, Stepped

Second = Callable[[Vector, Vector], Vector]
"""The second moment v and Δ² -> the next v."""


@rule(needs=["state", "sum"])
def fedadam(
    beta1: BelowOne = 0.9, beta2: BelowOne = 0.99, tau: Positive = 0.001, base: str = "mean"
) -> StatefulRule:
    """FedAdam: Adam on the server, over any rule (Reddi et al., ICLR 2021)."""
    keep = np.float32(beta2)
    return _adaptive(beta1, tau, base, lambda v, square: keep * v + (1 - keep) * square)


@rule(needs=["state", "sum"])
def fedyogi(
    beta1: BelowOne = 0.9, beta2: BelowOne = 0.99, tau: Positive = 0.001, base: str = "mean"
) -> StatefulRule:
    """FedYogi: Yogi on the server, over any rule (Reddi et al., ICLR 2021)."""
    change = 1 - np.float32(beta2)
    return _adaptive(beta1, tau, base, lambda v, square: v - change * square * np.sign(v - square))


def _adaptive(beta1: float, tau: float, base: str, second: Second) -> StatefulRule:
    """Build the rule that both are; ``second``: how the second moment goes on."""
    before, keep, least = plain_rule(base), np.float32(beta1), np.float32(tau)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Stepped:
        delta = before(updates, samples, context)
        m = context.state.get("m", np.zeros_like(delta))
        v = context.state.get("v", np.full_like(delta, least * least))
        with np.errstate(over="ignore", invalid="ignore"):
            m = keep * m + (1 - keep) * delta
            v = second(v, delta * delta)
            step = np.divide(m, np.sqrt(v) + least, dtype=np.float32)
            return step, {"m": m, "v": v}

    return PartitionedRule(rule)
