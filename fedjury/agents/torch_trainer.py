"""A training loop in PyTorch for devices that have none of their own.

trainer = fedjury.TorchTrainer(Sensor(), (x, y), optimizer="adamw", learning_rate=0.001)
fedjury.Device("site-a", "mqtt://broker:1883", run="pumps", trainer=trainer).run()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from fedjury.agents.functions import Metrics, Trained, Turn
from fedjury.agents.torch_samples import (
    Data,
    Samples,
    classes_of,
    is_float,
    parts_of,
    samples_of,
)
from fedjury.learning import models, task
from fedjury.learning.device import device_named, device_of
from fedjury.learning.losses import LOSSES
from fedjury.learning.metrics import METRICS
from fedjury.learning.models import has_batch_norm
from fedjury.learning.optimizers import OPTIMIZERS, Make, optimizer_of
from fedjury.learning.shards import batches
from fedjury.learning.task import Loss, Metric
from fedjury.learning.training import begin_training, trained
from fedjury.protocol.messages import Manifest
from fedjury.randomness import Purpose, stream

BATCH = 256
"""Samples at once where a model is measured."""

METRICS_OF_CLASSES: Mapping[str, Metric] = {"accuracy": task.accuracy}
METRICS_OF_NUMBERS: Mapping[str, Metric] = {"rmse": task.rmse, "mae": task.mae}

DEVICES = ("cpu", "cuda", "auto")

Build = Callable[..., nn.Module]
"""A class or function that makes a model, of nothing or of (input shape, classes)."""


class TorchTrainer:
    """Trains a PyTorch model on a device's own data, and measures it on what was held out.

    Whole-number targets are classes, others are numbers. What is None is as the run says: loss,
    optimizer, learning rate, epochs and batch size.
    """

    def __init__(
        self,
        model: nn.Module | Build | str | None,
        data: Data,
        *,
        loss: str | Callable[..., torch.Tensor] | None = None,
        optimizer: str | Callable[..., torch.optim.Optimizer] | None = None,
        learning_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        momentum: float | None = None,
        metrics: Sequence[str] = (),
        device: str = "cpu",
        schedule: Callable[[int], float] | None = None,
        validation: float | Data = 0.2,
        trainable: Sequence[str] = (),
    ) -> None:
        """``model``: a module, what makes one, or a name, as in the settings; None: the run's.

        ``loss``: a name, or a function of outputs and targets; ``optimizer``: a name, or what makes
        one of parameters and a learning rate, like a class of ``torch.optim``. ``schedule``: what
        the learning rate is multiplied by in a round. ``validation``: the share of samples that is
        not trained on but measured with, or other data for that. ``trainable``: names of the
        parameters that are trained and sent, also with ``*`` and ``?``; none: as the model has it.

        Raises
        ------
        ValueError
            If a name or a value is not valid; one sentence.
        TypeError
            If ``data`` are none.
        """
        self._model, self._loss, self._optimizer = model, loss, optimizer
        self._rate, self._epochs, self._size = learning_rate, epochs, batch_size
        self._momentum, self._schedule = momentum, schedule
        self._trainable = [trainable] if isinstance(trainable, str) else list(trainable)
        if device not in DEVICES:
            raise ValueError(f"device must be {', '.join(DEVICES)}, not {device!r}")
        self._device = device_named(device)
        self._more: dict[str, Metric] = {task.short(name): METRICS.build(name) for name in metrics}
        self._check()
        everything, self._collate = samples_of(data)
        if isinstance(data, DataLoader) and batch_size is None:
            self._size = data.batch_size
        self._all = everything
        self._mine, self._kept = parts_of(everything, validation)
        self._numbers = len(everything) > 0 and is_float(everything[0][1])
        self._classes = 0 if self._numbers else classes_of(everything)

    def _check(self) -> None:
        """Refuse what cannot be, before anything is waited for."""
        for name, value in (("epochs", self._epochs), ("batch_size", self._size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self._rate is not None and not 0 <= self._rate < math.inf:
            raise ValueError(f"learning_rate must be 0 or more and finite, not {self._rate}")
        if isinstance(self._loss, str):
            LOSSES.check(self._loss, {})
        if isinstance(self._optimizer, str):
            OPTIMIZERS.check(self._optimizer, {})
        if isinstance(self._model, str):
            models.MODELS.check(self._model, {})
        if isinstance(self._model, nn.Module):
            self._chosen(self._model)

    def begin(self, manifest: Manifest) -> nn.Module:
        """Return the model for a run.

        Raises
        ------
        ValueError
            If it cannot be made, or the run learns something else than these data are.
        """
        self._fit(manifest)
        if self._loss is None:
            LOSSES.agreed(manifest.loss)
        if self._optimizer is None:
            OPTIMIZERS.agreed(manifest.optimizer)
        if isinstance(self._model, nn.Module):
            return self._model.to(self._device)
        shape = tuple(np.shape(self._all[0][0])) if len(self._all) else manifest.input_shape
        outputs = 1 if self._numbers else manifest.classes or self._classes or 1
        name = self._model or models.MODELS.agreed(manifest.model)
        if isinstance(name, str) and ":" not in name:
            return self._chosen(models.build(name, shape, outputs, seed=0)).to(self._device)
        build = models.MODELS.resolve(name) if isinstance(name, str) else name
        return self._chosen(_made(build, shape, outputs)).to(self._device)

    def _chosen(self, model: nn.Module) -> nn.Module:
        """Freeze what is not to be trained of a model, and return it."""
        models.train_only(model, self._trainable, "trainable")
        return model

    def _fit(self, manifest: Manifest) -> None:
        """Take targets as the run does: whole numbers may be numbers, but not the other way."""
        if manifest.classes and self._numbers:
            raise ValueError(
                f"the run tells {manifest.classes:,} classes apart, and these targets are numbers "
                "with a decimal point"
            )
        if manifest.input_shape and not manifest.classes:
            self._numbers = True
        if self._classes > manifest.classes > 0:
            raise ValueError(
                f"the run tells {manifest.classes:,} classes apart, counted from 0, and class "
                f"{self._classes - 1:,} is among these targets"
            )

    def train(self, model: nn.Module, turn: Turn) -> Trained:
        """Train the model in place for a round; without samples, sit it out."""
        if not self._mine:
            return Trained(samples=0)
        begin_training(model)
        loss, optimizer = self._loss_of(turn), self._make(turn)(trained(model))
        size, epochs = self._size or turn.batch_size, self._epochs or turn.epochs
        order = stream(turn.seed, Purpose.SAMPLE_ORDER, turn.round)
        least = 2 if has_batch_norm(model) else 1
        total = 0.0
        for _ in range(epochs):
            total = 0.0
            visits = torch.from_numpy(order.permutation(self._mine))
            for batch in batches(visits, size, least):
                x, y = self._batch(batch.tolist(), model)
                optimizer.zero_grad()
                mean = loss(model(x), y).mean()
                mean.backward()
                optimizer.step()
                total += mean.item() * len(batch)
        model.eval()
        mean_loss = total / len(self._mine)
        figures = {"loss": mean_loss} if math.isfinite(mean_loss) else {}
        return Trained(samples=len(self._mine), metrics=figures)

    def evaluate(self, model: nn.Module, turn: Turn) -> Metrics:
        """Measure the model on the samples that were held out."""
        if not len(self._kept):
            return Metrics(0)
        model.eval()
        loss, total = self._loss_of(turn), 0.0
        answers, targets = [], []
        predict = task.numbers if self._numbers else task.likeliest
        with torch.inference_mode():
            for x, y in self._held_out(model):
                outputs = model(x)
                total += float(loss(outputs, y).mean()) * len(y)
                answers.append(predict(outputs).cpu())
                targets.append(y.cpu())
        predictions, right = torch.cat(answers).numpy(), torch.cat(targets).numpy()
        own = METRICS_OF_NUMBERS if self._numbers else METRICS_OF_CLASSES
        values = {"loss": total / len(right)}
        with np.errstate(invalid="ignore", over="ignore"):
            for name, metric in {**own, **self._more}.items():
                values[name] = metric(predictions, right)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        return Metrics(len(right), predictions=predictions, targets=right, **finite)

    def _loss_of(self, turn: Turn) -> Loss:
        """Return the loss of a round: ours, the run's, or what is usual for such targets."""
        chosen = self._loss
        options = turn.loss_options if chosen is None else {}
        if chosen is None:
            chosen = LOSSES.agreed(turn.loss) or ("mse" if self._numbers else "cross_entropy")
        if isinstance(chosen, str):
            return LOSSES.build(chosen, options=options)
        made: Callable[..., torch.Tensor] = chosen() if isinstance(chosen, type) else chosen
        if not self._numbers:
            return made
        # (b, 1) and (b,) would be spread to (b, b), which nobody means.
        return lambda outputs, targets: made(outputs.reshape(targets.shape), targets)

    def _make(self, turn: Turn) -> Make:
        """Return what makes the optimizer of a round."""
        rate = turn.learning_rate if self._rate is None else self._rate
        rate *= self._schedule(turn.round) if self._schedule else 1.0
        chosen, options = self._optimizer, {}
        if chosen is None:
            chosen, options = OPTIMIZERS.agreed(turn.optimizer), dict(turn.optimizer_options)
        if isinstance(chosen, str):
            momentum = turn.momentum if self._momentum is None else self._momentum
            return optimizer_of(chosen, rate, momentum, options)
        make = chosen
        return lambda parameters: make(parameters, rate)

    def _batch(
        self, places: Sequence[int], model: nn.Module, samples: Samples = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of these samples where the model is."""
        source = self._all if samples is None else samples
        x, y = self._collate([source[i] for i in places])
        there = device_of(model)
        return x.to(there), y.to(there, torch.float32 if self._numbers else torch.int64)

    def _held_out(self, model: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the samples that are measured with, batch by batch."""
        for first in range(0, len(self._kept), BATCH):
            places = range(first, min(first + BATCH, len(self._kept)))
            yield self._batch(places, model, self._kept)


def _made(build: Build, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Make a model by a class or function: of (shape, outputs) if it must be given something."""
    name = f"{getattr(build, '__module__', '?')}.{getattr(build, '__qualname__', build)}"
    try:
        model = build(shape, outputs) if models.takes_arguments(build) else build()
    except Exception as why:
        raise ValueError(f"model {name} cannot be made: {type(why).__name__}: {why}") from why
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} made a {type(model).__name__}, not a torch.nn.Module")  # noqa: TRY004 - of a name
    return model
