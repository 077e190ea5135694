"""Metrics by name: how good predictions (n,) of targets (n,) are (``training.metrics``)."""

from __future__ import annotations

from fedjury import registry
from fedjury.learning.task import Metric
from fedjury.registry import Registry

__all__ = ["METRICS"]

METRICS: Registry[Metric] = registry.METRICS
