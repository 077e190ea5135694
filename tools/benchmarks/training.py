"""Local training on one core: a plain PyTorch loop, the general batch (vmap), and ours by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedjury.learning import batched, datasets, models
from fedjury.learning.shards import Orders, Shards, sample_order
from fedjury.learning.task import Task, task_of
from fedjury.learning.training import Training, train_alone, train_together
from fedjury.learning.weights import Matrix, Vector, flatten
from tools.benchmarks.figures import ROOT, Figure, in_turn, ratios, timed

CHUNK = 100


class Workload(NamedTuple):
    """Agents with ``samples`` each, one epoch, and how many train in the plain loop."""

    model: str
    samples: int
    batch: int
    agents: int
    alone: int


W1 = Workload("classifier", samples=4, batch=4, agents=1000, alone=100)
LENET = Workload("lenet", samples=60, batch=10, agents=100, alone=20)


def rate(train: Callable[..., np.ndarray], work: Workload, agents: int) -> float:
    """Train ``agents`` agents, chunk by chunk, and return updates a second."""
    data = datasets.load("mnist5k", ROOT / "data")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = models.build(work.model, data.shape, data.classes, 0)
    weights = flatten(model)
    plan = Training(1, work.batch, 0.1, 0.0)
    chunk = min(CHUNK, agents)
    order = sample_order(0, 1, range(chunk), 1, work.samples)
    held = torch.arange(agents * work.samples).reshape(-1, chunk, work.samples) % len(x)

    def go() -> None:
        for values in held:
            train(model, weights, Shards(x, y, values), plan, order, task_of(data))

    return agents / timed(go)


def train_lean(
    model: nn.Module, weights: Vector, data: Shards, plan: Training, order: Orders, _: Task
) -> Matrix:
    """Train one after the other as fast as a plain loop can: one optimiser, weights copied."""
    deltas = np.empty((len(data.indices), len(weights)), dtype=np.float32)
    params = list(model.parameters())
    start = torch.tensor(weights).split([p.numel() for p in params])
    sgd = torch.optim.SGD(params, plan.learning_rate)
    for i, own in enumerate(data.indices):
        with torch.no_grad():
            for p, s in zip(params, start, strict=True):
                p.copy_(s.view_as(p))
        for batch in own[torch.from_numpy(order[i, 0])].split(plan.batch_size):
            sgd.zero_grad()
            F.cross_entropy(model(data.x[batch]), data.y[batch]).backward()
            sgd.step()
        moved = torch.cat([p.detach().flatten() for p in params])
        np.subtract(moved.numpy(), weights, out=deltas[i])
    return deltas


def general(*arguments: Any) -> np.ndarray:
    """Train in the general batch, as models do whose layers are not known."""
    with mock.patch.object(batched, "network", return_value=None):
        return train_together(*arguments)


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure both workloads, each way in turn."""
    torch.set_num_threads(1)
    figures = []
    for work, goal in ((W1, 8.0), (LENET, 2.5)):
        say(f"training of {work.model}, {work.samples} samples")
        ways = {
            "plain": partial(rate, train_alone, work, work.alone),
            "lean": partial(rate, train_lean, work, work.alone),
            "vmap": partial(rate, general, work, work.agents),
            "batched": partial(rate, train_together, work, work.agents),
        }
        for train in ways.values():
            train()  # warms up
        result = in_turn(ways, repeats)
        name = f"training, {work.model}, {work.samples} samples"
        figures += [
            Figure(f"{name}: plain loop, one core", result["plain"], "updates/s"),
            Figure(f"{name}: batched, one core", result["batched"], "updates/s"),
            ratios(f"{name}: lean loop / plain", result["lean"], result["plain"]),
            ratios(f"{name}: vmap / plain", result["vmap"], result["plain"]),
            ratios(f"{name}: batched / plain", result["batched"], result["plain"], at_least=goal),
        ]
    return figures
