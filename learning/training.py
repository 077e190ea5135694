"""Local training: many agents at once, each exactly as if it trained alone.

Plain SGD with momentum as in ``torch.optim.SGD``. All agents start from the same global model;
agent i takes its own mini-batches of its own data. One call trains them all: their weights are
one matrix (m, d), a gradient is taken of every row in a single batched pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from learning.models import has_batch_norm
from learning.weights import Matrix, Vector, flatten, load, tensors, unflatten


class Training(NamedTuple):
    """How an agent trains between two rounds; part of the manifest."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float


class Shards(NamedTuple):
    """The data of m agents: ``x`` (N, C, H, W) and ``y`` (N,), and who holds which samples.

    Agent i holds the samples ``indices[i]``; ``indices`` is (m, s) int64.
    """

    x: torch.Tensor
    y: torch.Tensor
    indices: torch.Tensor


Orders = npt.NDArray[np.int64]
"""(m, epochs, s): the order in which each agent visits its s samples in each epoch."""


def orders(rngs: list[np.random.Generator], epochs: int, samples: int) -> Orders:
    """Draw each agent's visiting orders (m, epochs, s) from its own generator."""
    drawn = [[rng.permutation(samples) for _ in range(epochs)] for rng in rngs]
    return np.asarray(drawn, dtype=np.int64).reshape(len(rngs), epochs, samples)


def train(model: nn.Module, weights: Vector, data: Shards, plan: Training, order: Orders) -> Matrix:
    """Train m agents from the same ``weights`` (d,) and return their deltas (m, d).

    Networks with batch norm train one after the other: their running statistics are their own.
    """
    one_by_one = has_batch_norm(model)
    return (train_alone if one_by_one else train_together)(model, weights, data, plan, order)


def train_together(
    model: nn.Module, weights: Vector, data: Shards, plan: Training, order: Orders
) -> Matrix:
    """Train all agents in one batch; the same result as :func:`train_alone` up to rounding."""
    start = torch.tensor(weights)
    params = start.repeat(len(data.indices), 1)
    velocity = torch.zeros_like(params) if plan.momentum else None
    gradient = _batched_gradient(model)
    for batch in _batches(data, plan, order):
        step = gradient(params, data.x[batch], data.y[batch])
        if velocity is not None:
            step = velocity.mul_(plan.momentum).add_(step)
        params.sub_(step, alpha=plan.learning_rate)
    return params.sub_(start).numpy()


def train_alone(
    model: nn.Module, weights: Vector, data: Shards, plan: Training, order: Orders
) -> Matrix:
    """Train the agents one after the other with ``torch.optim.SGD``: the plain loop."""
    deltas = np.empty((len(data.indices), len(weights)), dtype=np.float32)
    for i in range(len(deltas)):
        load(model, weights)
        model.train()
        sgd = torch.optim.SGD(model.parameters(), plan.learning_rate, plan.momentum)
        alone = data._replace(indices=data.indices[i : i + 1])
        for batch in _batches(alone, plan, order[i : i + 1]):
            sgd.zero_grad()
            F.cross_entropy(model(data.x[batch[0]]), data.y[batch[0]]).backward()
            sgd.step()
        np.subtract(flatten(model), weights, out=deltas[i])
    model.eval()
    return deltas


def _batches(data: Shards, plan: Training, order: Orders) -> Iterator[torch.Tensor]:
    """Yield the sample numbers (m, b) of every step; the last batch of an epoch may be short."""
    visits = torch.from_numpy(order)
    for epoch in range(plan.epochs):
        shuffled = data.indices.gather(1, visits[:, epoch])
        yield from shuffled.split(plan.batch_size, dim=1)


Gradient = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _batched_gradient(model: nn.Module) -> Gradient:
    """Return weights (m, d), inputs (m, b, ...), labels (m, b) -> gradients (m, d)."""
    layout = tensors(model)

    def loss(params: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(model, unflatten(params, layout), (x,))
        return F.cross_entropy(logits, y)

    gradient: Gradient = torch.func.vmap(torch.func.grad(loss))
    return gradient
