"""LeNet-5 as it is commonly written (LeCun et al. 1998); 44,426 parameters on MNIST."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedjury.learning.networks.convolutional import convolutional
from fedjury.registry import model


@model
def lenet(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build LeNet-5 as it is commonly written (LeCun et al. 1998); 44,426 parameters on MNIST."""
    return convolutional(input_shape, classes, channels=(6, 16), kernel=5, hidden=(120, 84))
