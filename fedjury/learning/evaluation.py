"""What a model answers, and how good its answers are by the metric of its task."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.backdoors.backdoor import Backdoor, success
from fedjury.learning.device import device_of
from fedjury.learning.task import Predictions, Task, answered
from fedjury.learning.weights import Matrix, Vector, load
from fedjury.registry import LOSSES, METRICS
from fedjury.registry.faults import PluginError, Tell, theirs, working

Answers = Callable[[Vector], Predictions]
"""A model (d,) -> what it answers to some samples."""

Losses = npt.NDArray[np.float32]
"""(G, N): the loss of each of G models on each of N samples."""

BATCH = 200
"""Samples a forward pass: few enough for the cache."""

BATCH_OF_EACH = 100
"""Samples a forward pass of several models: their weights are read once for so many."""

TOGETHER = 200_000
"""Numbers in the largest activation of a forward pass of several models, at the most: more are out
of the processor's cache, and take longer than one model after another."""

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


def predict_each(model: nn.Module, weights: Matrix, x: torch.Tensor, task: Task) -> Predictions:
    """Return what each model of ``weights`` (G, d) answers to each of ``x`` (N, ...), as (G, N).

    G is 1 at least. They are the answers of ``predict``, but where outputs are equal up to
    rounding: the products of several models may be added up in another order.
    """
    return _each(model, weights, x, lambda outputs, _: task.predict(outputs)).numpy()


def losses_each(
    model: nn.Module, weights: Matrix, x: torch.Tensor, y: torch.Tensor, task: Task
) -> Losses:
    """Return the loss of each model of ``weights`` (G, d) on each of ``x`` (N, ...), as (G, N).

    It is the task's: the cross-entropy of classes, the squared error of numbers, or what settings
    choose. ``y``: targets (N,). A loss that is not finite is returned as it is.
    """
    targets = y.to(device_of(model))

    def losses(outputs: torch.Tensor, samples: slice) -> torch.Tensor:
        own = targets[samples]
        return task.loss(outputs, own.repeat(len(outputs) // len(own)))

    return _each(model, weights, x, losses).float().numpy()


def _each(
    model: nn.Module,
    weights: Matrix,
    x: torch.Tensor,
    of: Callable[[torch.Tensor, slice], torch.Tensor],
) -> torch.Tensor:
    """Return what ``of`` makes of the outputs of models (G, d) on ``x`` (N, ...), as (G, N).

    It is given the outputs (g * k, ...) of g models on the k samples of a slice, and returns
    (g * k,). Models without stages are run one after another.
    """
    network, device = batched.network(model), device_of(model)
    load(model, weights[0])  # refuses models of another length
    together = 1 if network is None else _together(network, weights, x[:1].to(device))
    size = BATCH if together == 1 else BATCH_OF_EACH
    rows = []
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(weights), together):
            load(model, weights[first])
            params = torch.tensor(weights[first : first + together], device=device)
            parts = []
            for begin in range(0, len(x), size):
                samples = slice(begin, begin + size)
                part = x[samples].to(device)
                outputs = (
                    model(part)
                    if network is None
                    else network.logits(params, part.unsqueeze(0)).flatten(0, 1)
                )
                parts.append(of(outputs, samples).view(len(params), -1))
            rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows).cpu()


def _together(network: batched.Network, weights: Matrix, one: torch.Tensor) -> int:
    """Return how many models are run in one pass, by what they make of one input (1, ...)."""
    widest = network.widest(torch.tensor(weights[:1], device=one.device), one.unsqueeze(0))
    return max(1, TOGETHER // (BATCH_OF_EACH * max(1, widest)))


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
