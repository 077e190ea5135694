"""The user's classifier: two one-channel convolutions; 13,106 parameters on MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedjury.learning.networks.convolutional import convolutional
from fedjury.registry import model


@model
def classifier(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build the user's classifier: two one-channel convolutions; 13,106 parameters on MNIST."""
    return convolutional(input_shape, classes, channels=(1, 1), kernel=5, hidden=(120, 84))
