"""A clinic's model of how a disease goes on, trained with other clinics: no patient leaves.

clinic_script.py with five lines changed; the server is clinic_server.py.

python examples/clinic_device.py 0 mqtt://127.0.0.1:1883
"""

from __future__ import annotations

import sys

import torch
from sklearn.datasets import load_diabetes
from torch import nn

import fedjury

number = int(sys.argv[1])
x, y = (torch.tensor(part[number::5]).float() for part in load_diabetes(return_X_y=True))
model = nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 1))
device = fedjury.Device(f"clinic-{number}", sys.argv[2], run="clinics", model=model)


@device.train
def train(model: nn.Module, turn: fedjury.Turn) -> fedjury.Trained:
    """Take one pass over the patients."""
    adam = torch.optim.Adam(model.parameters(), 0.02)
    for batch in torch.randperm(len(x)).split(16):
        adam.zero_grad()
        loss = nn.functional.mse_loss(100 * model(x[batch])[:, 0], y[batch])
        loss.backward()
        adam.step()
    return fedjury.Trained(len(x), {"rmse": loss.sqrt().item()})


device.run()
