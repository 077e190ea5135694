"""Metrics where numbers are predicted."""

from __future__ import annotations

import numpy as np

from fedjury.learning import task
from fedjury.learning.task import Metric, Predictions
from fedjury.registry import metric


@metric
def rmse() -> Metric:
    """Build the root of the mean squared error, in the unit of the targets."""
    return task.rmse


@metric
def mae() -> Metric:
    """Build the mean absolute error, in the unit of the targets."""
    return task.mae


@metric
def r2() -> Metric:
    """Build R squared: 1 is perfect, 0 no better than always saying the targets' mean."""
    return _r2


def _r2(predictions: Predictions, targets: Predictions) -> float:
    """Return which share of the targets' variance is explained; NaN where there is none."""
    off = np.sum(np.square(predictions - targets, dtype=np.float64))
    spread = np.sum(np.square(targets - np.mean(targets, dtype=np.float64)))
    return float(1 - off / spread) if spread else float("nan")
