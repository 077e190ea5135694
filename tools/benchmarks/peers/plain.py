"""The base of all ratios: our plain PyTorch loop, one agent after the other on one core."""

from __future__ import annotations

import numpy as np
import torch

from fedjury.learning.shards import Shards
from fedjury.learning.task import classification
from fedjury.learning.training import Training, train_alone
from fedjury.learning.weights import flatten, load
from tools.benchmarks.peers import workload as w1


def main() -> None:
    """Train and average."""
    torch.set_num_threads(1)
    model, (x, y) = w1.network(), w1.dealt()
    held = torch.arange(w1.AGENTS * w1.SAMPLES).reshape(w1.AGENTS, w1.SAMPLES)
    data = Shards(x.flatten(0, 1), y.flatten(), held)
    plan = Training(w1.EPOCHS, w1.BATCH, w1.RATE, momentum=0.0)
    # The order is all the same: a batch is all that an agent has.
    order = np.tile(np.arange(w1.SAMPLES), (w1.AGENTS, w1.EPOCHS, 1))
    for _ in range(w1.rounds()):
        weights = flatten(model)
        deltas = train_alone(model, weights, data, plan, order, classification(10))
        load(model, weights + deltas.mean(axis=0))
        w1.round_done()
    w1.finished(model)


if __name__ == "__main__":
    main()
