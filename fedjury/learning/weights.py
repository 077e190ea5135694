"""A model as one flat vector, and back.

The vector of a model is what training changes, in the order of the state dict: its trainable
parameters and the running statistics of its normalisation. It is what the manifest lists and what
travels. Frozen parameters and all other buffers are the same in every copy of the model.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedjury.learning.arrays import Matrix as Matrix  # noqa: PLC0414 - where they have been
from fedjury.learning.arrays import Vector as Vector  # noqa: PLC0414

Normalisation = nn.modules.batchnorm._NormBase  # noqa: SLF001 - PyTorch has no public name for them
"""Layers that keep running statistics: batch norm, and instance norm where it is asked to."""


class Tensor(NamedTuple):
    """One entry of a model's vector: its name in the state dict and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many of the vector's elements it takes."""
        return int(np.prod(self.shape, dtype=np.int64))


def entries(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the entries of a model's vector by their names in the state dict, in order.

    A parameter that layers share stands there once, by its first name. Statistics of a frozen layer
    are frozen too.
    """
    running = {
        id(buffer)
        for layer in model.modules()
        if isinstance(layer, Normalisation) and not frozen(layer)
        for buffer in layer.buffers(recurse=False)
    }
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        travels = value.requires_grad if isinstance(value, nn.Parameter) else id(value) in running
        if travels and value.is_floating_point():
            found.setdefault(id(value), (name, value.detach()))
    return dict(found.values())


def places(model: nn.Module) -> dict[str, str]:
    """Return every place where an entry of the vector stands -> the name of that entry.

    Weights that layers share have several; a layer that stands twice is one layer.
    """
    first: dict[int, str] = {
        id(value): name for name, value in reversed(list(model.state_dict(keep_vars=True).items()))
    }
    known = entries(model).keys()
    return {
        f"{path}{'.' if path else ''}{name}": entry
        for path, layer in model.named_modules()
        for name, value in (*layer._parameters.items(), *layer._buffers.items())  # noqa: SLF001
        if value is not None and (entry := first.get(id(value), "")) in known
    }


def fixed(model: nn.Module) -> str:
    """Return a fingerprint of what does not travel, and so must be the same in every copy.

    Empty if there is nothing. What layers only count, like batches, is left out.
    """
    travels, digest = places(model), hashlib.blake2b(digest_size=16)
    names = []
    for name, value in model.state_dict().items():
        if name not in travels and name.rpartition(".")[2] != "num_batches_tracked":
            names.append(name)
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest() if names else ""


def frozen(layer: nn.Module) -> bool:
    """Return whether a layer has parameters of its own, and none of them is trained."""
    own = list(layer.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def tensors(model: nn.Module) -> tuple[Tensor, ...]:
    """List the entries of a model's vector, in order."""
    return tuple(Tensor(name, tuple(value.shape)) for name, value in entries(model).items())


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
    parts = [value.reshape(-1) for value in entries(model).values()]
    return torch.cat(parts).to(torch.float32).cpu().numpy().copy()


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
