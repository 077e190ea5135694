"""What a model answers, and how often it is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from learning import batched
from learning.backdoors.backdoor import Backdoor, success
from learning.weights import Vector, load

Predictions = npt.NDArray[np.int64]

BATCH = 200
"""Samples a forward pass: few enough for the cache."""


def predict(model: nn.Module, weights: Vector, x: torch.Tensor) -> Predictions:
    """Return the class that the model of ``weights`` (d,) gives each of ``x`` (N, ...).

    A model of NaN always answers class 0, for argmax takes the first of what it cannot compare.
    """
    load(model, weights)
    model.eval()
    network = batched.network(model)
    params = torch.tensor(weights).unsqueeze(0)

    def logits(part: torch.Tensor) -> torch.Tensor:
        return model(part) if network is None else network.logits(params, part.unsqueeze(0))[0]

    with torch.inference_mode():
        parts = [logits(part).argmax(dim=1) for part in x.split(BATCH)]
    return torch.cat(parts).numpy()


def accuracy_on(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to its share of right answers on (x, y)."""
    labels = y.numpy()

    def accuracy(weights: Vector) -> float:
        return float(np.mean(predict(model, weights, x) == labels))

    return accuracy


def success_of(model: nn.Module, backdoor: Backdoor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to the success of a backdoor in its trial."""
    trial = torch.from_numpy(backdoor.trial_x)
    return lambda weights: success(predict(model, weights, trial), backdoor)
