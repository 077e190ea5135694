"""Who takes part over HTTP: honest clients with data of their own, and fakes without any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from learning import datasets, models
from learning.datasets.dataset import Dataset
from learning.training import Shards, check_batches, train, visits
from learning.weights import Matrix, Vector, flatten
from monitor.visit import GatewayError, Global

CHUNK = 100
"""Clients trained in one batch."""

LARGEST = float(np.finfo(np.float32).max)


class Honest:
    """Clients who train the global model, each on ``samples`` images drawn for it alone."""

    def __init__(self, data: Dataset, members: Sequence[int], samples: int, seed: int) -> None:
        """``members``: their numbers, by which they draw; ``GatewayError`` if it cannot be."""
        size = len(data.y_train)
        if not 1 <= samples <= size:
            raise GatewayError(f"{samples} samples cannot be: {data.name} has {size:,}")
        drawn = [
            np.random.default_rng([seed, member]).choice(size, samples, replace=False)
            for member in members
        ]
        self.members, self.samples, self.seed = tuple(members), samples, seed
        self._data = data
        self._indices = np.array(drawn, dtype=np.int64).reshape(len(drawn), samples)

    def learn(self, start: Global) -> Matrix:
        """Train all from the global model; returns what each learnt, (m, d)."""
        data = self._data
        if (data.shape, data.classes) != (start.input_shape, start.classes):
            raise GatewayError(
                f"the run trains on inputs {start.input_shape} of {start.classes} classes, "
                f"{data.name} has {data.shape} of {data.classes}; give the run's own --data"
            )
        model = models.build(start.network, data.shape, data.classes, seed=0)
        try:
            check_batches(model, data.shape, start.training.batch_size, self.samples)
        except ValueError as why:
            raise GatewayError(str(why)) from why
        x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
        epochs, deltas = start.training.epochs, [np.empty((0, len(start.weights)), np.float32)]
        for first in range(0, len(self.members), CHUNK):
            some = slice(first, first + CHUNK)
            order = visits(self.seed, start.round, self.members[some], epochs, self.samples)
            shards = Shards(x, y, torch.from_numpy(self._indices[some]))
            deltas.append(train(model, start.weights, shards, start.training, order))
        return np.concatenate(deltas)


class Mpaf:
    """A fake client, which pulls towards a model that knows nothing (Cao, Gong: CVPR-W 2022)."""

    def __init__(self, scaling: float, seed: int) -> None:
        """``GatewayError`` if such a scaling cannot be."""
        if not abs(scaling) <= LARGEST:  # nor NaN
            raise GatewayError(f"a scaling of {scaling:g} is no finite float32")
        self._scaling, self._seed = np.float32(scaling), seed
        self._base: Vector | None = None

    def learn(self, start: Global) -> Vector:
        """Return the scaled step (d,) from the global model to the random one."""
        if self._base is None:
            built = models.build(start.network, start.input_shape, start.classes, self._seed)
            self._base = flatten(built)
        with np.errstate(over="ignore", invalid="ignore"):  # on purpose: it overflows in time
            return self._scaling * (self._base - start.weights)


def load(name: str, root: str) -> Dataset:
    """Load a data set and say what is odd about it; ``GatewayError`` if it cannot be had."""
    try:
        data = datasets.load(name, Path(root))
    except ValueError as why:
        raise GatewayError(str(why)) from why
    for note in data.notes:
        print(note, flush=True)
    return data
