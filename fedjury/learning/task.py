"""What is learnt: how a network is made for it, what it is trained towards, and how it is measured.

Trainer, evaluator, judges and the round take a ``Task`` and know of no other place where a loss or
a metric is chosen. There are two: to tell classes apart, and to predict numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from fedjury.learning import models
from fedjury.learning.arrays import read_only
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.error_profiles import (
    BINS,
    Profile,
    edges_of,
    error_profile,
    residual_profile,
)
from fedjury.randomness import Purpose
from fedjury.registry import LOSSES, METRICS
from fedjury.registry.faults import PluginError, working

Predictions = npt.NDArray[np.number[Any]]
"""(..., n): whole numbers are classes, of which ``NO_CLASS`` is none; else NaN is no answer."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Outputs (b, ...), targets (b, ...) -> the loss of each sample, (b,)."""

Metric = Callable[[Predictions, Predictions], float]
"""Predictions (n,), targets (n,) -> how good they are; NaN if that cannot be said."""

NO_CLASS = -1
"""What a model answers whose outputs are not all finite: it is wrong, whatever the label."""


class Build(Protocol):
    """How a network is made."""

    def __call__(
        self,
        name: str,
        input_shape: models.InputShape,
        /,
        *,
        seed: int,
        purpose: Purpose = Purpose.MODEL,
    ) -> nn.Module:
        """Build the network of that name for inputs of that shape; ``ValueError`` if it cannot."""


@dataclass(frozen=True)
class Task:
    """What is learnt from inputs and targets."""

    build: Build
    loss: Loss
    predict: Callable[[torch.Tensor], torch.Tensor]
    """Outputs (n, ...) -> predictions (n,)."""
    metrics: Mapping[str, Metric]
    """Name -> what it makes of predictions (n,) and targets (n,); records hold the first."""
    profile: Callable[[Predictions, Predictions], Profile]
    """Predictions (..., n), targets (n,) -> the error profile (..., p) that judges compare.

    Whole numbers, which count the errors of each of p kinds.
    """
    kinds: int
    """p."""
    classes: int = 0
    """How many classes are told apart; 0: none, numbers are predicted."""


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of each sample, (b,), of logits (b, classes) and labels (b,)."""
    return F.cross_entropy(outputs, labels, reduction="none")


def likeliest(outputs: torch.Tensor) -> torch.Tensor:
    """Return the class of the largest output in each row of (n, classes), if all are finite.

    A single output is that of class 1, beside a 0 for class 0.
    """
    alone = outputs.shape[1] == 1
    found = (outputs[:, 0] > 0).to(torch.int64) if alone else outputs.argmax(dim=1)
    return torch.where(outputs.isfinite().all(dim=1), found, NO_CLASS)


def answered(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Return which predictions (n,) are an answer."""
    whole = np.issubdtype(predictions.dtype, np.integer)
    return np.asarray(predictions != NO_CLASS if whole else np.isfinite(predictions), np.bool_)


def accuracy(predictions: Predictions, labels: Predictions) -> float:
    """Return the share of predictions (n,) that are the labels (n,)."""
    return float(np.mean(predictions == labels))


def classification(classes: int, trainable: Sequence[str] = ()) -> Task:
    """Return the task of telling so many classes apart, judged by BAFFLE's class-wise errors.

    ``trainable``: see ``models.build``.
    """
    return Task(
        build=partial(models.build, classes=classes, trainable=trainable),
        loss=cross_entropy,
        predict=likeliest,
        metrics={"accuracy": accuracy},
        profile=partial(error_profile, classes=classes),
        kinds=2 * classes,
        classes=classes,
    )


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared error of each sample, (b,), of outputs (b, 1) or (b,) and targets (b,)."""
    return F.mse_loss(outputs.reshape(targets.shape), targets, reduction="none")


def numbers(outputs: torch.Tensor) -> torch.Tensor:
    """Return outputs (n, 1) or (n,) as the numbers that are predicted, (n,)."""
    return outputs.flatten(1).squeeze(1) if outputs.ndim > 1 else outputs


def rmse(predictions: Predictions, targets: Predictions) -> float:
    """Return the root of the mean squared error of predictions (n,) of targets (n,)."""
    return float(np.sqrt(np.mean(np.square(predictions - targets, dtype=np.float64))))


def mae(predictions: Predictions, targets: Predictions) -> float:
    """Return the mean absolute error of predictions (n,) of targets (n,)."""
    return float(np.mean(np.abs(predictions - targets), dtype=np.float64))


def errors_by_bin(predictions: Predictions, targets: Predictions) -> Profile:
    """Return the error profile (..., 2K) of predictions (..., n) of targets (n,) that are numbers.

    Bins are drawn from the targets; where these have fewer than K, the rest count nothing.
    """
    counts = residual_profile(predictions, targets, edges_of(targets))
    halves = counts.reshape(*counts.shape[:-1], 2, -1)
    lacking = [(0, 0)] * (halves.ndim - 1) + [(0, BINS - halves.shape[-1])]
    return np.pad(halves, lacking).reshape(*counts.shape[:-1], 2 * BINS)


def regression(trainable: Sequence[str] = ()) -> Task:
    """Return the task of predicting a number, judged by the bins of its targets.

    ``trainable``: see ``models.build``.
    """
    return Task(
        build=partial(models.build, classes=1, trainable=trainable),
        loss=squared_error,
        predict=numbers,
        metrics={"rmse": rmse, "mae": mae},
        profile=errors_by_bin,
        kinds=2 * BINS,
    )


def metric_of(name: str) -> Metric:
    """Build the metric of a name; one of somebody else's fails in a sentence, a ``PluginError``.

    Raises
    ------
    ValueError
        If there is none.
    """
    built: Metric = METRICS.build(name)
    if name in METRICS.own:
        return built

    def metric(predictions: Predictions, targets: Predictions) -> float:
        with working(METRICS, name):
            value: Any = built(read_only(predictions), read_only(targets))
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as why:
            kind = type(value).__name__
            raise PluginError(f"metric {name!r} gave no number but {kind}") from why

    return metric


def short(name: str) -> str:
    """Return under which name a metric is recorded: of ``package.module:name`` the last part."""
    return name.rpartition(":")[2]


def task_of(
    data: Dataset,
    *,
    loss: str = "",
    loss_options: Mapping[str, object] = MappingProxyType({}),
    metrics: Sequence[str] = (),
    trainable: Sequence[str] = (),
) -> Task:
    """Return what is learnt from a data set: the one place where a run's task is chosen.

    ``loss``, ``metrics``: names of plug-ins, in the place of the task's own loss, and beside its
    own metrics.

    Raises
    ------
    ValueError
        If a name or an option is not valid.
    """
    task = classification(data.classes, trainable) if data.classes else regression(trainable)
    more = {short(name): metric_of(name) for name in metrics if name not in task.metrics}
    own = LOSSES.build(loss, options=loss_options) if loss or loss_options else task.loss
    return replace(task, loss=own, metrics={**task.metrics, **more})
