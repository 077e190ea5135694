"""Losses by name: what a model is trained towards (``training.loss``)."""

from __future__ import annotations

from fedjury import registry
from fedjury.learning.task import Loss
from fedjury.registry import Registry

__all__ = ["LOSSES"]

LOSSES: Registry[Loss] = registry.LOSSES
