"""The company's network for simulated fleets."""

import math

from torch import nn


def small(input_shape, classes):
    """Build one hidden layer of 24."""
    inputs = math.prod(input_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, classes))
