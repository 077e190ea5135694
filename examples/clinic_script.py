"""A clinic's model of how a disease goes on, trained on its own patients alone.

An ordinary training script: clinic_device.py is the same as a device of a federation.

python examples/clinic_script.py 0
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_diabetes
from torch import nn

number = int(sys.argv[1])
x, y = (torch.tensor(part[number::5]).float() for part in load_diabetes(return_X_y=True))
model = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))


def train(model: nn.Module) -> float:
    """Take one pass over the patients."""
    adam = torch.optim.Adam(model.parameters(), 0.02)
    for batch in torch.randperm(len(x)).split(16):
        adam.zero_grad()
        loss = nn.functional.mse_loss(100 * model(x[batch])[:, 0], y[batch])
        loss.backward()
        adam.step()
    return loss.sqrt().item()


print(min(train(model) for _ in range(50)))
