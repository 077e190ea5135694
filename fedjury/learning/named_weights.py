"""A model's vector as named tensors, and as a file that others can read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from fedjury.learning.own_model import Arrays, Layout

Vector = npt.NDArray[np.float32]


def named(weights: Vector, layout: Layout) -> Arrays:
    """Return the vector (d,) as arrays by name, in the order of the layout.

    Raises
    ------
    ValueError
        If it is not as long as the layout.
    """
    sizes = [int(np.prod(shape, dtype=np.int64)) for _, shape in layout]
    if weights.shape != (sum(sizes),):
        raise ValueError(f"the model has {sum(sizes):,} parameters, the vector {weights.shape}")
    parts = np.split(weights, np.cumsum(sizes)[:-1])
    return {
        name: np.ascontiguousarray(part).reshape(shape)
        for (name, shape), part in zip(layout, parts, strict=True)
    }


def as_safetensors(weights: Vector, layout: Layout, notes: Mapping[str, str] = {}) -> bytes:
    """Return a safetensors file with one tensor for each name, and notes in its metadata."""
    return save(named(weights, layout), metadata=dict(notes))
