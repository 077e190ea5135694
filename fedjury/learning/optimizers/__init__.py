"""Optimizers by name: how an agent steps along its gradients (``training.optimizer``).

A builder is given the parameters and the learning rate, and momentum where it has that; so
``torch.optim:Adagrad`` serves as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from fedjury import registry
from fedjury.registry import Registry

__all__ = ["OPTIMIZERS", "Make", "optimizer_of"]

Make = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Parameters -> a fresh optimizer of them."""

OPTIMIZERS: Registry[torch.optim.Optimizer] = registry.OPTIMIZERS


def optimizer_of(
    name: str, learning_rate: float, momentum: float, options: Mapping[str, object]
) -> Make:
    """Return what makes the optimizer of this name, with options of its own, for parameters.

    Raises
    ------
    ValueError
        If there is none of that name, or its options do not fit.
    """
    own = {"momentum": momentum} if "momentum" in OPTIMIZERS.options(name) else {}
    given = own | dict(options)
    OPTIMIZERS.check(name, given)
    build = OPTIMIZERS.resolve(name)
    return lambda parameters: build(parameters, learning_rate, **given)
