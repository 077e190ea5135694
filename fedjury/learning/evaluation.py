"""What a model answers, and how good its answers are by the metric of its task."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.backdoors.backdoor import Backdoor, success
from fedjury.learning.device import device_of
from fedjury.learning.task import Predictions, Task, answered
from fedjury.learning.weights import Vector, load
from fedjury.registry import LOSSES, METRICS
from fedjury.registry.faults import PluginError, Tell, theirs, working

Answers = Callable[[Vector], Predictions]
"""A model (d,) -> what it answers to some samples."""

BATCH = 200
"""Samples a forward pass: few enough for the cache."""

REMEMBERED = 2
"""Models whose answers are kept: with piggy-back two candidates are looked at in turn."""


def predict(model: nn.Module, weights: Vector, x: torch.Tensor, task: Task) -> Predictions:
    """Return what the model of ``weights`` (d,) answers to each of ``x`` (N, ...), as (N,)."""
    load(model, weights)
    model.eval()
    network = batched.network(model)
    device = device_of(model)
    params = torch.tensor(weights, device=device).unsqueeze(0)

    def outputs(part: torch.Tensor) -> torch.Tensor:
        return model(part) if network is None else network.logits(params, part.unsqueeze(0))[0]

    with torch.inference_mode():
        parts = [task.predict(outputs(part.to(device))) for part in x.split(BATCH)]
    return torch.cat(parts).cpu().numpy()


def check_answers(name: str, model: nn.Module, x: torch.Tensor, task: Task) -> None:
    """Make sure that a model takes inputs like ``x`` (n, ...), and answers as the task has it.

    Raises
    ------
    ValueError
        If it does not; ``name`` is the model's.
    """
    inputs = f"inputs of {tuple(x.shape[1:])} {str(x.dtype).removeprefix('torch.')}"
    try:
        with torch.inference_mode():
            outputs = model(x.to(device_of(model)))
    except Exception as why:
        text = " ".join(f"{type(why).__name__}: {why}".split())
        raise ValueError(f"model {name!r} fails on {inputs}: {text}") from why
    given = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if not _fits(given, len(x), task.classes):
        kind = f"tell {task.classes:,} classes apart" if task.classes else "predict a number"
        raise ValueError(
            f"model {name!r} gives {given} for {len(x)} {inputs}; to {kind} it must give "
            f"{(len(x), task.classes or 1)}"
        )


def check_loss(name: str, model: nn.Module, x: torch.Tensor, y: torch.Tensor, task: Task) -> None:
    """Make sure that a loss of somebody else's gives one number of each of a few samples.

    Raises
    ------
    ValueError
        If it fails or does not; ``name`` is the loss's, empty where it is the task's own.
    """
    if not name or name in LOSSES.own:
        return
    device = device_of(model)
    with torch.inference_mode(), working(LOSSES, name):
        losses = task.loss(model(x.to(device)), y.to(device))
    given = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
    if given != (len(x),):
        raise ValueError(
            f"loss {name!r} gives {given} for {len(x)} samples; it must give the loss of each, "
            f"{(len(x),)}"
        )


def _fits(given: tuple[int, ...] | str, samples: int, classes: int) -> bool:
    """Say whether outputs of this shape are an answer: (n, 1), for numbers (n,) too."""
    match given:
        case (rows,):
            return rows == samples and not classes
        case (rows, columns) if isinstance(columns, int):
            return rows == samples and (columns == 1 or columns >= classes > 0)
    return False


def answers_on(model: nn.Module, x: torch.Tensor, task: Task) -> Answers:
    """Return a function from a model's vector (d,) to its outputs on ``x`` (N, ...).

    Asked again for the same array, it does not compute them again.
    """
    known: deque[tuple[Vector, Predictions]] = deque(maxlen=REMEMBERED)

    def answers(weights: Vector) -> Predictions:
        for asked, result in known:
            if asked is weights:
                return result
        result = predict(model, weights, x, task)
        known.append((weights, result))
        return result

    return answers


def metric_of(answers: Answers, y: torch.Tensor, task: Task) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to the task's first metric of its answers."""
    targets, metric = y.numpy(), next(iter(task.metrics.values()))
    return lambda weights: metric(answers(weights), targets)


def metrics_of(
    answers: Answers, y: torch.Tensor, task: Task, tell: Tell = lambda _text, _kind: None
) -> Callable[[Vector], dict[str, float]]:
    """Return a function from a model's vector (d,) to all metrics of its answers, by name.

    One that is not finite, as of answers that are not, is left out, and so is one of somebody
    else's that fails; ``tell`` is told of these.
    """
    targets = y.numpy()

    def metrics(weights: Vector) -> dict[str, float]:
        found, values = answers(weights), dict[str, float]()
        for name, metric in task.metrics.items():
            try:
                with np.errstate(invalid="ignore", over="ignore"):
                    value = metric(found, targets)
            except PluginError as why:
                tell(f"{why}; it is left out where it fails", f"metric {name}")
                continue
            if math.isfinite(value):
                values[name] = value
            elif theirs((METRICS, name)):
                text = f"metric {name!r} gave {value}; it is left out where it is not finite"
                tell(text, f"metric {name}")
        return values

    return metrics


def flaw_of(answers: Answers) -> Callable[[Vector], str]:
    """Return a function from a model's vector (d,) to what is wrong with its answers, or ""."""

    def flaw(weights: Vector) -> str:
        result = answers(weights)
        none = int(np.count_nonzero(~answered(result)))
        text = f"its outputs on {none:,} of {len(result):,} held-out samples are not finite"
        return text if none else ""

    return flaw


def success_of(model: nn.Module, backdoor: Backdoor, task: Task) -> Callable[[Vector], float]:
    """Return a function from a model's vector (d,) to the success of a backdoor in its trial."""
    trial = torch.from_numpy(backdoor.test_x)
    return lambda weights: success(predict(model, weights, trial, task), backdoor)
