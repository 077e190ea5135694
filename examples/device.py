"""One real device: its own name, its own data, its own training loop.

The aggregator, on any machine: python -m aggregator --run digits --data digits --validators 0
Then as many devices as there are: python examples/device.py site-0 mqtt://127.0.0.1:1883
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_digits

import fedjury
from fedjury.learning import models

name, broker = sys.argv[1:]
x, y = (torch.from_numpy(part[int(name[-1]) :: 5]) for part in load_digits(return_X_y=True))
x = (x.float() / 16).reshape(-1, 1, 8, 8)
network = models.build("mlp", (1, 8, 8), 10, seed=0)  # any torch.nn.Module that the run trains
device = fedjury.Device(name, broker, run="digits", model=network)


@device.train
def train(model: torch.nn.Module, turn: fedjury.Turn) -> fedjury.Trained:
    """Take the run's weights, which are in the model, some steps further on own data."""
    sgd = torch.optim.SGD(model.parameters(), turn.learning_rate)
    for _ in range(turn.epochs):
        for batch in torch.randperm(len(x)).split(turn.batch_size):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            sgd.step()
    return fedjury.Trained(samples=len(x))


device.run()
