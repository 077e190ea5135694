"""One hidden layer of 32 units: for small inputs such as ``digits``, and for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fedjury.registry import model


@model
def mlp(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build one hidden layer of 32 units: for small inputs such as ``digits``, and for tests."""
    features = int(torch.Size(input_shape).numel())
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, classes))
