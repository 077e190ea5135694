"""A model of somebody's, by its place: ``tests.support.sensor:Sensor``."""

from __future__ import annotations

from torch import nn


class Sensor(nn.Sequential):
    """Two readings, and a number made of them; called with nothing."""

    def __init__(self):
        super().__init__(nn.Linear(2, 1))


def sensor(_shape, _outputs):
    """Build it for an aggregator, which says what it is given."""
    return Sensor()
