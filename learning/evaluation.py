"""What a model answers, and how often it is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from learning.weights import Vector, load

Predictions = npt.NDArray[np.int64]

BATCH = 1000
"""Samples a forward pass: bounds the memory of evaluating a large test set."""


def predict(model: nn.Module, weights: Vector, x: torch.Tensor) -> Predictions:
    """Return the class that the model of ``weights`` (d,) gives each of ``x`` (N, ...).

    A model of NaN always answers class 0, for argmax takes the first of what it cannot compare.
    """
    load(model, weights)
    model.eval()
    with torch.inference_mode():
        parts = [model(part).argmax(dim=1) for part in x.split(BATCH)]
    return torch.cat(parts).numpy()


def accuracy_on(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to its share of right answers on (x, y)."""
    labels = y.numpy()

    def accuracy(weights: Vector) -> float:
        return float(np.mean(predict(model, weights, x) == labels))

    return accuracy
