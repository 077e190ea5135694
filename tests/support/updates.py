"""Updates and contexts for the tests of rules and of what stands in front of them."""

from __future__ import annotations

import numpy as np

from fedjury import rules
from fedjury.rules import Context

NOTHING = Context()

HUGE = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).smallest_subnormal)


def matrix(*rows):
    return np.array(rows, dtype=np.float32)


def ones(n):
    return np.ones(n, dtype=np.int64)


def random_updates(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def honest_updates(n, d, seed=0):
    """Make updates that have a direction in common, each with noise of its own half as long."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(d)
    return (common + 0.5 * rng.standard_normal((n, d))).astype(np.float32)


def build(name, **hyperparameters):
    """Build a rule that is called without a context, where it needs none."""
    rule = rules.build(name, **hyperparameters)
    return lambda updates, samples, context=NOTHING: rule(updates, samples, context)


def told(updates, typical):
    """Make a context for any rule: all that may be known; ``typical``: a good update (d,)."""
    typical = np.array(typical, dtype=np.float32)
    return Context(
        seed=3, round=5, previous=typical, update_sums=updates.copy(), server_update=typical
    )
