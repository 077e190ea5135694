"""A model as one flat vector, and back.

The vector of a model is every floating-point entry of its state dict, parameters and
batch-norm buffers alike, in the order of the state dict: what the manifest lists.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Vector = npt.NDArray[np.float32]
"""(d,) float32: a model, or a change of one, in the manifest's order."""

Matrix = npt.NDArray[np.float32]
"""(n, d) float32: one row an update."""


class Tensor(NamedTuple):
    """One entry of a model's vector: its name in the state dict and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many of the vector's elements it takes."""
        return int(np.prod(self.shape, dtype=np.int64))


def tensors(model: nn.Module) -> tuple[Tensor, ...]:
    """List the entries of a model's vector, in order."""
    state = model.state_dict()
    return tuple(Tensor(k, tuple(v.shape)) for k, v in state.items() if v.is_floating_point())


def variances(model: nn.Module) -> npt.NDArray[np.int64]:
    """Return the places in a model's vector that hold running variances of batch norm, (k,)."""
    places, first = [np.empty(0, np.int64)], 0
    for tensor in tensors(model):
        if tensor.name.rpartition(".")[2] == "running_var":
            places.append(np.arange(first, first + tensor.size))
        first += tensor.size
    return np.concatenate(places)


def flatten(model: nn.Module) -> Vector:
    """Copy a model into one vector of shape (d,)."""
    entries = [v.detach().reshape(-1) for v in model.state_dict().values() if v.is_floating_point()]
    return torch.cat(entries).to(torch.float32).cpu().numpy().copy()


def unflatten(vectors: torch.Tensor, layout: tuple[Tensor, ...]) -> dict[str, torch.Tensor]:
    """View the last axis of ``vectors`` (..., d) as named tensors of shape (..., *shape)."""
    parts = torch.split(vectors, [t.size for t in layout], dim=-1)
    lead = vectors.shape[:-1]
    return {t.name: p.reshape(*lead, *t.shape) for t, p in zip(layout, parts, strict=True)}


def load(model: nn.Module, vector: Vector) -> None:
    """Write a vector of shape (d,) into a model, in place.

    Raises
    ------
    ValueError
        If the vector's length is not the model's.
    """
    layout = tensors(model)
    size = sum(t.size for t in layout)
    if vector.shape != (size,):
        raise ValueError(f"the model has {size:,} parameters, the vector has shape {vector.shape}")
    with torch.no_grad():
        named = unflatten(torch.from_numpy(np.array(vector, dtype=np.float32)), layout)
        model.load_state_dict(named, strict=False)


def step_between(before: Vector, after: Vector, server_lr: float) -> Vector | None:
    """Return the aggregated update (d,) that led from one model to the next, if there was one.

    Made of the models, of which a resumed run has the same.
    """
    if not server_lr:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return ((after - before) / np.float32(server_lr)).astype(np.float32)
