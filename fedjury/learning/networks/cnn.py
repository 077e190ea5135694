"""The CNN of PoisonedFL's MNIST experiments; 139,960 parameters on MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedjury.learning.networks.convolutional import convolutional
from fedjury.registry import model


@model
def cnn(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build the CNN of PoisonedFL's MNIST experiments; 139,960 parameters on MNIST."""
    return convolutional(input_shape, classes, channels=(30, 50), kernel=3, hidden=(100,))
