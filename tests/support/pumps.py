"""Devices that learn a plane, as a fleet of them is spawned: ``tests.support.pumps:make``."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import fedjury

PLANE = np.array([1.0, -2.0, 0.5, 3.0, -1.0])


class Net(nn.Module):
    """A small network with dropout, whose draws must not depend on where it trains."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1))

    def forward(self, x):
        """Take rows of five numbers."""
        return self.body(x)[:, 0]


def make(number):
    """Make device ``number``: it holds 20 samples and one more for each device before it."""
    samples, rng = 20 + number, np.random.default_rng(number)
    rows = rng.standard_normal((samples, 5))
    x = torch.tensor(rows, dtype=torch.float32)
    y = torch.tensor(rows @ PLANE, dtype=torch.float32)
    device = fedjury.Device(f"pump-{number}", model=Net(), say=lambda _: None)

    @device.train
    def train(model, turn):
        adam = torch.optim.Adam(model.parameters(), 0.05)
        for _ in range(5):
            adam.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            adam.step()
        return fedjury.Trained(samples, {"loss": loss})

    @device.evaluate
    def evaluate(model, turn):
        with torch.no_grad():
            return fedjury.Metrics(samples, predictions=model(x), targets=y)

    return device
