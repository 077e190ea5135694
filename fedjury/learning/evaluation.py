"""What a model answers, and how often it is right."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.backdoors.backdoor import Backdoor, success
from fedjury.learning.weights import Vector, load

Predictions = npt.NDArray[np.int64]
"""Classes, or ``NO_CLASS`` where a model gave none."""

Answers = Callable[[Vector], Predictions]
"""A model (d,) -> what it answers to some samples."""

BATCH = 200
"""Samples a forward pass: few enough for the cache."""


NO_CLASS = -1
"""What a model answers whose outputs are not all finite: it is wrong, whatever the label."""

REMEMBERED = 2
"""Models whose answers are kept: with piggy-back two candidates are looked at in turn."""


def predict(model: nn.Module, weights: Vector, x: torch.Tensor) -> Predictions:
    """Return the class that the model of ``weights`` (d,) gives each of ``x`` (N, ...).

    Where an output is NaN or infinite the answer is ``NO_CLASS``: argmax would say class 0.
    """
    load(model, weights)
    model.eval()
    network = batched.network(model)
    params = torch.tensor(weights).unsqueeze(0)

    def logits(part: torch.Tensor) -> torch.Tensor:
        return model(part) if network is None else network.logits(params, part.unsqueeze(0))[0]

    with torch.inference_mode():
        parts = [_classes(logits(part)) for part in x.split(BATCH)]
    return torch.cat(parts).numpy()


def _classes(logits: torch.Tensor) -> torch.Tensor:
    """Return the class of the largest output in each row of (n, classes), if all are finite."""
    return torch.where(logits.isfinite().all(dim=1), logits.argmax(dim=1), NO_CLASS)


def answers_on(model: nn.Module, x: torch.Tensor) -> Answers:
    """Return a function from a model's vector (d,) to its outputs on ``x`` (N, ...).

    Asked again for the same array, it does not compute them again.
    """
    known: deque[tuple[Vector, Predictions]] = deque(maxlen=REMEMBERED)

    def answers(weights: Vector) -> Predictions:
        for asked, result in known:
            if asked is weights:
                return result
        result = predict(model, weights, x)
        known.append((weights, result))
        return result

    return answers


def accuracy_of(answers: Answers, y: torch.Tensor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to the share of its answers that are ``y``."""
    labels = y.numpy()
    return lambda weights: float(np.mean(answers(weights) == labels))


def accuracy_on(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to its share of right answers on (x, y)."""
    return accuracy_of(lambda weights: predict(model, weights, x), y)


def flaw_of(answers: Answers) -> Callable[[Vector], str]:
    """Return a function from a model's vector (d,) to what is wrong with its answers, or ""."""

    def flaw(weights: Vector) -> str:
        result = answers(weights)
        none = int(np.count_nonzero(result == NO_CLASS))
        text = f"its outputs on {none:,} of {len(result):,} held-out samples are not finite"
        return text if none else ""

    return flaw


def success_of(model: nn.Module, backdoor: Backdoor) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to the success of a backdoor in its trial."""
    trial = torch.from_numpy(backdoor.test_x)
    return lambda weights: success(predict(model, weights, trial), backdoor)
