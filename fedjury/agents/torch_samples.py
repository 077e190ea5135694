"""A device's own samples as PyTorch takes them: arrays, data sets, loaders; and their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from fedjury.randomness import Purpose, stream

Data = tuple[Any, Any] | Dataset[Any] | DataLoader[Any]
"""Inputs and targets as arrays or tensors, (n, ...) and (n,); or pairs of them, one a sample."""

Samples = Any
"""What has a length, and at each place an input and its target."""


class Part:
    """Some of the samples."""

    def __init__(self, samples: Samples, places: Sequence[int]) -> None:
        self._samples, self._places = samples, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Any:
        return self._samples[self._places[place]]


def samples_of(data: Data) -> tuple[Samples, Callable[[list[Any]], Any]]:
    """Return samples by number, and what puts some of them into a batch."""
    if isinstance(data, DataLoader):
        return samples_of(data.dataset)[0], data.collate_fn
    if isinstance(data, tuple | list) and len(data) == 2:
        x, y = (_tensor(part) for part in data)
        if len(x) != len(y):
            raise ValueError(f"there are {len(x):,} inputs and {len(y):,} targets")
        flat = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        return TensorDataset(x, flat), default_collate
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TypeError(
            "data are a pair (x, y) of arrays, a torch Dataset with a length, or a DataLoader of "
            f"one; this is of type {type(data).__name__}"
        )
    return data, default_collate


def _tensor(values: Any) -> torch.Tensor:
    """Return values as float32, or as int64 if they are whole numbers."""
    result = values.detach() if isinstance(values, torch.Tensor) else torch.as_tensor(values)
    return result.to(torch.float32 if result.is_floating_point() else torch.int64)


def is_float(target: Any) -> bool:
    """Say whether a target is a number, and no class."""
    if isinstance(target, torch.Tensor):
        return target.is_floating_point()
    return np.asarray(target).dtype.kind == "f"


def classes_of(samples: Samples) -> int:
    """Return how many classes there are at least; 0 where all would have to be read for that."""
    if not isinstance(samples, TensorDataset) or not len(samples):
        return 0
    return int(samples.tensors[1].max()) + 1


def parts_of(samples: Samples, validation: float | Data) -> tuple[list[int], Samples]:
    """Return the places of the samples to train on, and those to measure with.

    With too few to hold any out, or none wanted, they are the same.
    """
    count = len(samples)
    if not isinstance(validation, int | float):
        return list(range(count)), samples_of(validation)[0]
    if not 0 <= validation < 1:
        raise ValueError(f"validation must be from 0 to below 1, or data, not {validation}")
    held = min(math.ceil(count * validation), count - 1) if validation else 0
    if held < 1:
        return list(range(count)), samples
    order = stream(0, Purpose.HOLD_OUT).permutation(count).tolist()
    return sorted(order[held:]), Part(samples, sorted(order[:held]))
