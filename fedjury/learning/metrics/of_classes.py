"""Metrics where classes are told apart."""

from __future__ import annotations

import numpy as np

from fedjury.learning import task
from fedjury.learning.task import Metric, Predictions
from fedjury.registry import metric


@metric
def accuracy() -> Metric:
    """Build the share of samples whose class is named rightly."""
    return task.accuracy


@metric
def balanced_accuracy() -> Metric:
    """Build the mean over classes of the share of each that is named rightly."""
    return _balanced


@metric
def f1() -> Metric:
    """Build the mean over classes of F1, the harmonic mean of precision and recall."""
    return _f1


def _balanced(predictions: Predictions, labels: Predictions) -> float:
    """Return the mean recall of the classes among the labels."""
    right = predictions == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _f1(predictions: Predictions, labels: Predictions) -> float:
    """Return the mean F1 of the classes among labels and predictions; no class is none."""
    classes = np.union1d(labels, predictions[task.answered(predictions)])
    right = [np.sum((predictions == c) & (labels == c)) for c in classes]
    either = [np.sum(predictions == c) + np.sum(labels == c) for c in classes]
    return float(np.mean(2 * np.array(right) / np.array(either)))
