"""How a model learns from a batch of each of many agents: the gradients, and the samples."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from fedjury.learning import batched
from fedjury.learning.batched import Step
from fedjury.learning.shards import Shards
from fedjury.learning.task import Loss, cross_entropy
from fedjury.learning.weights import places, tensors, unflatten


def pick(
    data: Shards, batch: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return on a device the inputs (m, b, C, H, W) and targets (m, b) of numbers (m, b)."""
    x = data.x.index_select(0, batch.flatten())  # data.x[batch] takes twice as long
    return x.unflatten(0, batch.shape).to(device), data.y[batch].to(device)


class Descend(Protocol):
    """How a model learns from a batch of each of m agents."""

    def __call__(
        self,
        params: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        step: Step,
        shares: torch.Tensor | None = None,
        /,
    ) -> None:
        """Add the gradients at weights (m or 1, d), of inputs (m, b, ...) and targets (m, b).

        ``shares``: (m, b), what each sample counts in its batch; None: all as much.
        """


def descent(model: nn.Module, loss: Loss) -> Descend:
    """Return the model's gradients of a loss: written out where they are known, else by vmap.

    Written out they are for known layers with the cross-entropy, see :mod:`batched`.
    """
    network = batched.network(model) if loss is cross_entropy else None
    if network is not None:
        return network.descend
    layout, standing = tensors(model), places(model)

    def of_batch(
        params: torch.Tensor, x: torch.Tensor, y: torch.Tensor, shares: torch.Tensor | None
    ) -> torch.Tensor:
        named = unflatten(params, layout)
        # PyTorch would tie shared weights itself, but not put a layer that stands twice back.
        weights = {place: named[entry] for place, entry in standing.items()}
        outputs = torch.func.functional_call(model, weights, (x,), tie_weights=False)
        losses = loss(outputs, y)
        return losses.mean() if shares is None else losses @ shares

    def descend(
        params: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        step: Step,
        shares: torch.Tensor | None = None,
    ) -> None:
        places = (0, 0, 0, None if shares is None else 0)
        gradient = torch.func.vmap(torch.func.grad(of_batch), places)
        step.add(0, gradient(params.expand(len(x), -1), x, y, shares))

    return descend
