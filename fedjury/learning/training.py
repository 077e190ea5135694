"""Local training: many agents at once, each exactly as if it trained alone.

Plain SGD with momentum as in ``torch.optim.SGD``. All agents start from the same global model;
agent i takes its own mini-batches of its own data. One call trains them all: their weights are
one matrix (m, d), a gradient is taken of every row in a single batched pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.batched import Step
from fedjury.learning.device import device_of
from fedjury.learning.models import has_batch_norm
from fedjury.learning.shards import Orders, Shards, Steps, batches, steps_of
from fedjury.learning.task import Loss, Task, cross_entropy
from fedjury.learning.weights import (
    Matrix,
    Normalisation,
    Vector,
    flatten,
    frozen,
    load,
    places,
    tensors,
    unflatten,
)
from fedjury.randomness import Words, torch_seeded


class Training(NamedTuple):
    """How an agent trains between two rounds; part of the manifest."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float


BLOCK = 400
"""Samples a pass: few enough for the cache, many enough to hide what a call costs."""

FEWEST = 2
"""Agents that take a step of their own together at the least: the products of one alone are added
up in another order."""


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
    so do those that draw random numbers, as for dropout, or cannot be batched for another reason.
    ``seeds``: (m,), where each agent's draws begin; None: at 0. Who holds no sample learns nothing.
    """
    if not has_batch_norm(model):
        try:
            return train_together(model, weights, data, plan, order, task)
        except RuntimeError:  # what vmap cannot do: draw at random, branch on values, ...
            if batched.network(model) is not None:
                raise
    return train_alone(model, weights, data, plan, order, task, seeds)


def fewest(model: nn.Module, shape: Sequence[int]) -> int:
    """Return how many samples (C, H, W) a training batch needs: 1, or 2.

    Two where batch norm comes to see a single pixel: one value has no variance.
    """
    if not has_batch_norm(model):
        return 1
    tried = deepcopy(model).train()
    try:
        with torch.no_grad():
            tried(torch.zeros(1, *shape))
    except ValueError:  # PyTorch's word for it
        return 2
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
    descend, device = _descend(model, task.loss), device_of(model)
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
    ranks = data.counts.argsort(descending=True, stable=True).numpy()
    if (np.diff(ranks) < 0).any():
        changes = np.empty((len(ranks), len(start)), dtype=np.float32)
        sorted_data = data.of(torch.from_numpy(ranks))
        changes[ranks] = _all_blocks(descend, start, sorted_data, plan, order[ranks])
        return changes
    changes = np.empty((len(data.indices), len(start)), dtype=np.float32)
    m, block = len(changes), max(1, BLOCK // plan.batch_size)
    blocks = max(1, m // block)  # of equal size: products of few rows are added up differently
    train_block = _train_block if data.held is None else _train_unequal
    for first, last in pairwise(m * i // blocks for i in range(blocks + 1)):
        values = slice(first, last)
        change = torch.from_numpy(changes[values])
        there = change.to(start.device)  # on the processor these are one and the same
        train_block(descend, start, data.of(values), plan, order[values], there)
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
    picked = _pick(data, first, start.device)
    descend(start.unsqueeze(0), *picked, Step(change, plan.learning_rate, 0.0))
    if not later:
        return
    step = change.clone() if plan.momentum else change
    params = change.add_(start)
    for batch in later:
        keep = plan.momentum or 1.0  # without momentum the step goes straight into the weights
        descend(params, *_pick(data, batch, start.device), Step(step, plan.learning_rate, keep))
        if plan.momentum:
            params.add_(step)
    params.sub_(start)


def _train_unequal(
    descend: Descend,
    start: torch.Tensor,
    data: Shards,
    plan: Training,
    order: Orders,
    change: torch.Tensor,
) -> None:
    """Train as :func:`_train_block` does m agents who hold unequal numbers of samples, most first.

    Agents take their t-th steps together, on batches that are all as long, in which what an agent
    lacks counts nothing. Who has taken its last step leaves, and so the last in the row; the one
    with most steps ends beside a copy of itself (``FEWEST``).
    """
    size = min(plan.batch_size, data.indices.shape[1])
    steps = steps_of(data, plan.epochs, plan.batch_size, order, size)
    there = int((steps.counts > 0).sum())
    change[there:] = 0
    if not there:
        return
    numbers, shares = steps.at(0, slice(there))
    x, y = _pick(data, numbers, start.device)
    first = Step(change[:there], plan.learning_rate, 0.0)
    descend(start.unsqueeze(0), x, y, first, shares.to(start.device))
    more = int((steps.counts > 1).sum())
    if not more:
        return
    params = change[:more]
    into = params.clone() if plan.momentum else params
    params.add_(start)
    together = int(steps.counts[FEWEST - 1]) if len(steps.counts) >= FEWEST else 1
    _later_steps(descend, params, into, data, plan, steps, range(1, together))
    if left := range(together, int(steps.counts[0])):
        beside = params[:1].repeat(FEWEST, 1)
        moving = into[:1].repeat(FEWEST, 1) if plan.momentum else beside
        _later_steps(descend, beside, moving, data, plan, steps.alike(FEWEST), left)
        params[0] = beside[0]
    params.sub_(start)


def _later_steps(
    descend: Descend,
    params: torch.Tensor,
    into: torch.Tensor,
    data: Shards,
    plan: Training,
    steps: Steps,
    times: range,
) -> None:
    """Take the steps of these ``times`` with the weights (m, d) of agents, those with most first.

    ``into`` (m, d): their last steps, as momentum keeps them; without it ``params`` itself.
    """
    keep = plan.momentum or 1.0  # without momentum the step goes straight into the weights
    for t in times:
        there = int((steps.counts > t).sum())
        numbers, shares = steps.at(t, slice(there))
        now, step = params[:there], Step(into[:there], plan.learning_rate, keep)
        x, y = _pick(data, numbers, params.device)
        descend(now, x, y, step, shares.to(params.device))
        if plan.momentum:
            now.add_(step.into)


def train_alone(
    model: nn.Module,
    weights: Vector,
    data: Shards,
    plan: Training,
    order: Orders,
    task: Task,
    seeds: Words | None = None,
) -> Matrix:
    """Train the agents one after the other with ``torch.optim.SGD``: the plain loop.

    ``seeds``: see :func:`train`.

    Raises
    ------
    ValueError
        If a batch is too small for the model's batch norm.
    """
    shape = data.x.shape[1:]
    if (some := data.counts[data.counts > 0]).numel():
        check_batches(model, shape, plan.batch_size, int(some.min()))
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
        sgd = torch.optim.SGD(trained(model), plan.learning_rate, plan.momentum)
        alone = data.of(slice(i, i + 1))._replace(indices=data.indices[i : i + 1, :held])
        mine = order[i : i + 1]
        visits = mine[mine < held].reshape(1, plan.epochs, held)
        with torch_seeded(0 if seeds is None else int(seeds[i])):
            for batch in _batches(alone, plan, visits, least):
                step(model, sgd, task.loss, data.x[batch[0]], data.y[batch[0]])
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
    model: nn.Module, sgd: torch.optim.Optimizer, loss: Loss, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """Take a step on a batch of inputs (b, ...) and targets (b, ...); return its mean loss, ()."""
    device = device_of(model)
    sgd.zero_grad()
    mean = loss(model(x.to(device)), y.to(device)).mean()
    mean.backward()
    sgd.step()
    return mean.detach()


def _batches(data: Shards, plan: Training, order: Orders, least: int = 1) -> Iterator[torch.Tensor]:
    """Yield the sample numbers (m, b) of every step; the last batch of an epoch may be short."""
    drawn = torch.from_numpy(order)
    for epoch in range(plan.epochs):
        shuffled = data.indices.gather(1, drawn[:, epoch])
        yield from batches(shuffled, plan.batch_size, least)


def _pick(
    data: Shards, batch: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return on a device the inputs (m, b, C, H, W) and targets (m, b) of numbers (m, b)."""
    x = data.x.index_select(0, batch.flatten())  # data.x[batch] takes twice as long
    return x.unflatten(0, batch.shape).to(device), data.y[batch].to(device)


class Descend(Protocol):
    """How a model learns from a batch of each of m agents."""

    def __call__(
        self,
        params: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        step: Step,
        shares: torch.Tensor | None = None,
        /,
    ) -> None:
        """Add the gradients at weights (m or 1, d), of inputs (m, b, ...) and targets (m, b).

        ``shares``: (m, b), what each sample counts in its batch; None: all as much.
        """


def _descend(model: nn.Module, loss: Loss) -> Descend:
    """Return the model's gradients of a loss: written out where they are known, else by vmap.

    Written out they are for known layers with the cross-entropy, see :mod:`batched`.
    """
    network = batched.network(model) if loss is cross_entropy else None
    if network is not None:
        return network.descend
    layout, standing = tensors(model), places(model)

    def of_batch(
        params: torch.Tensor, x: torch.Tensor, y: torch.Tensor, shares: torch.Tensor | None
    ) -> torch.Tensor:
        named = unflatten(params, layout)
        # PyTorch would tie shared weights itself, but not put a layer that stands twice back.
        weights = {place: named[entry] for place, entry in standing.items()}
        outputs = torch.func.functional_call(model, weights, (x,), tie_weights=False)
        losses = loss(outputs, y)
        return losses.mean() if shares is None else losses @ shares

    def descend(
        params: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        step: Step,
        shares: torch.Tensor | None = None,
    ) -> None:
        places = (0, 0, 0, None if shares is None else 0)
        gradient = torch.func.vmap(torch.func.grad(of_batch), places)
        step.add(0, gradient(params.expand(len(x), -1), x, y, shares))

    return descend
