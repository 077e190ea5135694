"""FedAvgM: server momentum over any rule (Hsu, Qi, Brown, arXiv 1909.06335, 2019).

v ← β v + Δ, where Δ is what the rule ``base`` makes of the updates, and the model goes by v. Only
accepted rounds count: a candidate that is rejected leaves no trace in v.
"""

from __future__ import annotations

import numpy as np

from fedjury.registry import rule
from fedjury.registry.bounds import BelowOne
from fedjury.rules.based import plain_rule
from fedjury.rules.partitions import PartitionedRule, Partitions
from fedjury.rules.rule import Context, Samples, StatefulRule, Stepped


@rule(needs=["state", "sum"])
def fedavgm(momentum: BelowOne = 0.9, base: str = "mean") -> StatefulRule:
    """Build the rule; ``momentum``: β, below 1. ``base``: the rule before it, without options."""
    before = plain_rule(base)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Stepped:
        delta = before(updates, samples, context)
        velocity = context.state.get("velocity", np.zeros_like(delta))
        with np.errstate(over="ignore", invalid="ignore"):
            velocity = np.float32(momentum) * velocity + delta
        return velocity, {"velocity": velocity}

    return PartitionedRule(rule)
