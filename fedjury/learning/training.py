"""Local training: many agents at once, each exactly as if it trained alone.

Plain SGD with momentum as in ``torch.optim.SGD``. All agents start from the same global model;
agent i takes its own mini-batches of its own data. One call trains them all: their weights are
one matrix (m, d), a gradient is taken of every row in a single batched pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.batched import Step
from fedjury.learning.descent import Descend, descent, pick
from fedjury.learning.device import device_of
from fedjury.learning.models import has_batch_norm
from fedjury.learning.optimizers import optimizer_of
from fedjury.learning.shards import Orders, Shards, batches, steps_of
from fedjury.learning.task import Loss, Task
from fedjury.learning.unequal import train_unequal
from fedjury.learning.weights import (
    Matrix,
    Normalisation,
    Vector,
    flatten,
    frozen,
    load,
    places,
)
from fedjury.randomness import Words, torch_seeded


class Training(NamedTuple):
    """How an agent trains between two rounds; part of the manifest."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    optimizer: str = "sgd"
    options: Mapping[str, object] = MappingProxyType({})
    """Of the optimizer."""

    @property
    def plain(self) -> bool:
        """Whether it is SGD as it is written out for many agents at once."""
        return self.optimizer == "sgd" and not self.options


BLOCK = 400
"""Samples a pass: few enough for the cache, many enough to hide what a call costs."""


def train(
    model: nn.Module,
    weights: Vector,
    data: Shards,
    plan: Training,
    order: Orders,
    task: Task,
    seeds: Words | None = None,
) -> Matrix:
    """Train m agents from the same ``weights`` (d,) and return their deltas (m, d).

    Networks with batch norm train one after the other, for their running statistics are their own;
    so do those that draw random numbers, as for dropout, or cannot be batched for another reason,
    and all with another optimizer than SGD.
    ``seeds``: (m,), where each agent's draws begin; None: at 0. Who holds no sample learns nothing.
    """
    if plan.plain and not has_batch_norm(model):
        try:
            return train_together(model, weights, data, plan, order, task)
        except RuntimeError:  # what vmap cannot do: draw at random, branch on values, ...
            if batched.network(model) is not None:
                raise
    return train_alone(model, weights, data, plan, order, task, seeds)


def fewest(model: nn.Module, shape: Sequence[int]) -> int:
    """Return how many samples of a shape a training batch needs: 1, or 2.

    Two where batch norm comes to see a single pixel: one value has no variance.
    """
    if not has_batch_norm(model):
        return 1
    tried = deepcopy(model).train()
    for kind in (torch.float32, torch.int64):  # whole numbers are for those that look them up
        try:
            with torch.no_grad():
                tried(torch.zeros(1, *shape, dtype=kind))
        except ValueError:  # PyTorch's word for it
            return 2
        except (RuntimeError, IndexError):
            continue
        return 1
    return 1


def check_batches(model: nn.Module, shape: Sequence[int], batch_size: int, samples: int) -> None:
    """Make sure that a model can train on batches of such a size, cut from so many samples.

    Raises
    ------
    ValueError
        If batches would be of one sample, and that is too few for its batch norm.
    """
    if min(batch_size, samples) < 2 <= fewest(model, shape):
        raise ValueError(
            f"this network's batch norm sees a single pixel of images {tuple(shape)}, and learns "
            f"nothing from a batch of one: batch size (it is {batch_size}) and samples to train on "
            f"({samples}) must be 2 or more; or take another network"
        )


def train_together(
    model: nn.Module, weights: Vector, data: Shards, plan: Training, order: Orders, task: Task
) -> Matrix:
    """Train all agents in batches; the same result as :func:`train_alone` up to rounding."""
    descend, device = descent(model, task.loss), device_of(model)
    begin_training(model)
    try:
        return _all_blocks(descend, torch.tensor(weights, device=device), data, plan, order)
    finally:
        model.eval()


def _all_blocks(
    descend: Descend, start: torch.Tensor, data: Shards, plan: Training, order: Orders
) -> Matrix:
    """Train m agents block by block from ``start`` (d,); returns their deltas (m, d).

    Of agents with unequal numbers of samples those with most come first, so that a block is made of
    agents who take about as many steps.
    """
    changes = np.empty((len(data.indices), len(start)), dtype=np.float32)
    if data.held is not None and (data.held.diff() > 0).any():
        ranks = data.held.argsort(descending=True, stable=True)
        ranked = _all_blocks(descend, start, data.of(ranks), plan, order[ranks.numpy()])
        changes[ranks.numpy()] = ranked
        return changes
    m, block = len(changes), max(1, BLOCK // plan.batch_size)
    blocks = max(1, m // block)  # of equal size: products of few rows are added up differently
    for first, last in pairwise(m * i // blocks for i in range(blocks + 1)):
        values = slice(first, last)
        change = torch.from_numpy(changes[values])
        there = change.to(start.device)  # on the processor these are one and the same
        if data.held is None:
            _train_block(descend, start, data.of(values), plan, order[values], there)
        else:
            steps = steps_of(data.of(values), plan.epochs, plan.batch_size, order[values])
            train_unequal(descend, start, data, steps, plan.learning_rate, plan.momentum, there)
        if there is not change:
            change.copy_(there)
    return changes


def _train_block(
    descend: Descend,
    start: torch.Tensor,
    data: Shards,
    plan: Training,
    order: Orders,
    change: torch.Tensor,
) -> None:
    """Train m agents from ``start`` (d,) and write their deltas into ``change`` (m, d).

    In the first step all have the same weights, and what it writes is their delta already: with a
    single step, as in the main workload, the matrix (m, d) is written once and never read.
    """
    first, *later = _batches(data, plan, order)
    picked = pick(data, first, start.device)
    descend(start.unsqueeze(0), *picked, Step(change, plan.learning_rate, 0.0))
    if not later:
        return
    step = change.clone() if plan.momentum else change
    params = change.add_(start)
    for batch in later:
        keep = plan.momentum or 1.0  # without momentum the step goes straight into the weights
        descend(params, *pick(data, batch, start.device), Step(step, plan.learning_rate, keep))
        if plan.momentum:
            params.add_(step)
    params.sub_(start)


def train_alone(
    model: nn.Module,
    weights: Vector,
    data: Shards,
    plan: Training,
    order: Orders,
    task: Task,
    seeds: Words | None = None,
) -> Matrix:
    """Train the agents one after the other with PyTorch's optimizers: the plain loop.

    The optimizer is made afresh for each agent, and remembers nothing of earlier rounds.

    ``seeds``: see :func:`train`.

    Raises
    ------
    ValueError
        If a batch is too small for the model's batch norm.
    """
    shape = data.x.shape[1:]
    if (some := data.counts[data.counts > 0]).numel():
        check_batches(model, shape, plan.batch_size, int(some.min()))
    fresh = optimizer_of(plan.optimizer, plan.learning_rate, plan.momentum, plan.options)
    least = fewest(model, shape)
    deltas = np.empty((len(data.indices), len(weights)), dtype=np.float32)
    travels = places(model)
    state = model.state_dict().items()
    fixed = {name: value.clone() for name, value in state if name not in travels}
    for i in range(len(deltas)):
        if not (held := int(data.counts[i])):
            deltas[i] = 0
            continue
        model.load_state_dict(fixed, strict=False)  # an agent before may have changed it
        load(model, weights)
        begin_training(model)
        optimizer = fresh(trained(model))
        alone = data.of(slice(i, i + 1))._replace(indices=data.indices[i : i + 1, :held])
        mine = order[i : i + 1]
        visits = mine[mine < held].reshape(1, plan.epochs, held)
        with torch_seeded(0 if seeds is None else int(seeds[i])):
            for batch in _batches(alone, plan, visits, least):
                step(model, optimizer, task.loss, data.x[batch[0]], data.y[batch[0]])
        np.subtract(flatten(model), weights, out=deltas[i])
    model.eval()
    return deltas


def begin_training(model: nn.Module) -> None:
    """Set a model to training; normalisation that is frozen keeps the statistics it has."""
    model.train()
    for layer in model.modules():
        if isinstance(layer, Normalisation) and frozen(layer):
            layer.eval()


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Take a step on a batch of inputs (b, ...) and targets (b, ...); return its mean loss, ()."""
    device = device_of(model)
    optimizer.zero_grad()
    mean = loss(model(x.to(device)), y.to(device)).mean()
    mean.backward()
    optimizer.step()
    return mean.detach()


def _batches(data: Shards, plan: Training, order: Orders, least: int = 1) -> Iterator[torch.Tensor]:
    """Yield the sample numbers (m, b) of every step; the last batch of an epoch may be short."""
    drawn = torch.from_numpy(order)
    for epoch in range(plan.epochs):
        shuffled = data.indices.gather(1, drawn[:, epoch])
        yield from batches(shuffled, plan.batch_size, least)
