"""A fleet of devices of one's own: pump(number) makes each of them.

fedjury run --devices examples.pumps:pump --n 20 --data none --model examples.pumps:Plane
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import fedjury

PLANE = np.array([1.0, -2.0, 0.5])


class Plane(nn.Module):
    """What all of them learn: a number of three others."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Take rows of three numbers (n, 3), and return (n,)."""
        return x @ self.weights


def pump(number: int) -> fedjury.Device:
    """Make a device that holds 20 samples, and one more for each before it."""
    rng = np.random.default_rng(number)
    rows = rng.standard_normal((20 + number, 3))
    x, y = (torch.tensor(values, dtype=torch.float32) for values in (rows, rows @ PLANE))
    trainer = fedjury.TorchTrainer(Plane(), (x, y), optimizer="sgd", learning_rate=0.02, epochs=5)
    return fedjury.Device(f"pump-{number}", trainer=trainer)
