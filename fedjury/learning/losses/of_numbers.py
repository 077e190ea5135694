"""Losses where numbers are predicted; of classes, each output is drawn towards 1 or 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from fedjury.learning.task import Loss
from fedjury.registry import loss
from fedjury.registry.bounds import Positive


@loss
def mse() -> Loss:
    """Build the squared error: what numbers are learnt by unless another is chosen."""
    return partial(_by_output, F.mse_loss)


@loss
def l1() -> Loss:
    """Build the absolute error, which outliers draw less than the squared one."""
    return partial(_by_output, F.l1_loss)


@loss
def huber(delta: Positive = 1.0) -> Loss:
    """Build Huber's loss: squared up to an error of ``delta``, absolute beyond."""
    return partial(_by_output, partial(F.huber_loss, delta=delta))


def _by_output(
    loss: Callable[..., Any], outputs: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Return the loss of each sample, (b,), of outputs (b,), (b, 1) or (b, classes)."""
    if outputs.ndim > targets.ndim and outputs.shape[-1] > 1:
        numbers = torch.arange(outputs.shape[-1], device=outputs.device)
        wanted = (targets.unsqueeze(-1) == numbers).to(outputs)
        result: torch.Tensor = loss(outputs, wanted, reduction="none").sum(-1)
        return result
    flat: torch.Tensor = loss(outputs.reshape(targets.shape), targets.to(outputs), reduction="none")
    return flat
