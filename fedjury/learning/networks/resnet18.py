"""The narrow ResNet-18 of Bagdasaryan et al. (2020): 32 planes, 2.8 M parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fedjury.registry import model


@model
def resnet18(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build the narrow ResNet-18 of Bagdasaryan et al. (2020): 32 planes, 2.8 M parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    ]
    planes = 32
    for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        layers += [ResidualBlock(planes, width, stride), ResidualBlock(width, width, 1)]
        planes = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut around them (He et al. 2016)."""

    def __init__(self, planes: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(planes, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or planes != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(planes, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, planes, h, w) to (n, width, h / stride, w / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))
