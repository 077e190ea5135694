"""A small world for learners: three members with data, and a network of 2,410 parameters."""

from __future__ import annotations

import numpy as np
import torch

from fedjury.attacks import AttackContext
from fedjury.learning import models
from fedjury.learning.shards import Shards
from fedjury.learning.task import classification
from fedjury.learning.training import Training
from fedjury.learning.weights import flatten

D = 2410

TASK = classification(10)


def world(scale=1.0):
    """Make a world of three genuine members, numbers 1, 4 and 6, and a base model of ones."""
    rng = np.random.default_rng(0)
    data = Shards(
        torch.from_numpy(rng.random((12, 1, 8, 8), dtype=np.float32)),
        torch.from_numpy(rng.integers(0, 10, 12)),
        torch.from_numpy(rng.permutation(12).reshape(3, 4)),
    )
    return AttackContext(
        task=TASK,
        model=models.build("mlp", (1, 8, 8), 10, seed=0),
        plan=Training(1, 2, 0.1, 0.0),
        data=data,
        row={1: 0, 4: 1, 6: 2},
        scale=scale,
        fresh=lambda: np.ones(D, dtype=np.float32),
    )


def start_weights():
    """Return the model that members start from."""
    return flatten(models.build("mlp", (1, 8, 8), 10, seed=3))
