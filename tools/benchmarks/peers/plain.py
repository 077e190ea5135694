"""The base of all ratios: our plain PyTorch loop, one agent after the other on one core."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fedjury.learning.shards import Shards
from fedjury.learning.task import classification
from fedjury.learning.training import Training, train_alone
from fedjury.learning.weights import flatten, load
from tools.benchmarks.peers import workload as w1


def main() -> None:
    """Train all agents, and say when rounds end."""
    torch.set_num_threads(1)
    w1.finished(train(w1.AGENTS, w1.rounds(), w1.round_done))


def train(agents: int, rounds: int, round_done: Callable[[], None] = lambda: None) -> nn.Module:
    """Train the first so many agents and average, round after round."""
    model, (x, y) = w1.network(), w1.dealt()
    held = torch.arange(agents * w1.SAMPLES).reshape(agents, w1.SAMPLES)
    data = Shards(x.flatten(0, 1), y.flatten(), held)
    plan = Training(w1.EPOCHS, w1.BATCH, w1.RATE, momentum=0.0)
    # The order is all the same: a batch is all that an agent has.
    order = np.tile(np.arange(w1.SAMPLES), (agents, w1.EPOCHS, 1))
    for _ in range(rounds):
        weights = flatten(model)
        deltas = train_alone(model, weights, data, plan, order, classification(10))
        load(model, weights + deltas.mean(axis=0))
        round_done()
    return model


if __name__ == "__main__":
    main()
