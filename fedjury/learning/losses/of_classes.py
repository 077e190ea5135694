"""Losses where classes are told apart."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt

from fedjury.learning import task
from fedjury.learning.task import Loss
from fedjury.registry import loss


@loss
def cross_entropy(label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0) -> Loss:
    """Build the cross-entropy of softmax: what classes are learnt by unless another is chosen."""
    if not label_smoothing:
        return (
            task.cross_entropy
        )  # this very function: known networks have its gradient written out
    return partial(F.cross_entropy, reduction="none", label_smoothing=label_smoothing)


@loss
def bce() -> Loss:
    """Build the binary cross-entropy: of one output, or the second of two over the first."""

    def of_samples(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        two = outputs.ndim > targets.ndim and outputs.shape[-1] == 2
        logits = outputs[..., 1] - outputs[..., 0] if two else outputs.reshape(targets.shape)
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits), reduction="none")

    return of_samples
