"""Convolutions with pooling, then linear layers: what several networks are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def convolutional(
    input_shape: Sequence[int],
    classes: int,
    channels: Sequence[int],
    kernel: int,
    hidden: Sequence[int],
) -> nn.Module:
    """Chain convolution, ReLU, 2x2 pooling for each of ``channels``, then linear layers.

    Layers with weights are called conv1, conv2, ..., fc1, fc2, ..., as in PyTorch's tutorials and
    in the state dicts that people have.
    """
    if len(input_shape) != 3:
        raise ValueError("convolutions need images (channels, height, width); try model 'mlp'")
    planes, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, count in enumerate(channels, start=1):
        layers[f"conv{i}"] = nn.Conv2d(planes, count, kernel)
        layers[f"conv{i}_relu"], layers[f"conv{i}_pool"] = nn.ReLU(), nn.MaxPool2d(2)
        planes, height, width = count, (height - kernel + 1) // 2, (width - kernel + 1) // 2
        if min(height, width) < 1:
            raise ValueError("it is too small for the convolutions (try model 'mlp')")
    layers["flatten"] = nn.Flatten()
    features = planes * height * width
    for i, units in enumerate(hidden, start=1):
        layers[f"fc{i}"], layers[f"fc{i}_relu"] = nn.Linear(features, units), nn.ReLU()
        features = units
    layers[f"fc{len(hidden) + 1}"] = nn.Linear(features, classes)
    return nn.Sequential(layers)
