"""Aggregation rules: how the updates of a round become one.

A rule is a function ``(updates (n, d), samples (n,)) -> (d,)``, all float32 but the samples.
It never writes its input, and it must cope with updates that are not finite. A new rule is one
file and one line of the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from aggregator.rules import mean, median, trimmed_mean
from aggregator.rules.clip import clipped
from learning import tables
from learning.weights import Matrix, Vector

Samples = npt.NDArray[np.int64]
"""(n,): how many samples each update was trained on, as its sender says."""

Rule = Callable[[Matrix, Samples], Vector]
"""(updates (n, d), samples (n,)) -> aggregated update (d,)."""

RULES: dict[str, Callable[..., Rule]] = {
    "mean": mean.mean,
    "median": median.median,
    "trimmed_mean": trimmed_mean.trimmed_mean,
}


def build(name: str, clip: float | None = None, **hyperparameters: object) -> Rule:
    """Build the rule of that name, with norm clipping at ``clip`` in front if one is given.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    rule = tables.build(RULES, "rule", name, hyperparameters, also=("clip",))
    return rule if clip is None else clipped(rule, clip)
