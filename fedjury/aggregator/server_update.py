"""The update that the server trains on data of its own, for rules that trust it (FLTrust).

FLTrust makes every update as long as this one. So the server takes as many steps as an agent does,
as in the paper, however many samples it keeps: of more samples it takes more a step. With as many a
step as an agent, eighty samples beside agents of four would be twenty times as many steps, and no
model bears an update that is so much longer than an agent's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.datasets.split import Indices
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.task import Task
from fedjury.learning.training import Training, train
from fedjury.learning.weights import Vector
from fedjury.randomness import Purpose, keys


def server_update(
    model: nn.Module,
    task: Task,
    data: Dataset,
    held: Indices,
    samples: int,
    plan: Training,
    seed: int,
) -> Callable[[Vector, int], Vector]:
    """Let the server train on the training samples ``held`` (k,) that it kept.

    It takes as many steps as an agent of ``samples`` samples, or fewer where it has fewer samples.
    """
    steps = math.ceil(samples / plan.batch_size)
    plan = plan._replace(batch_size=max(plan.batch_size, math.ceil(len(held) / steps)))
    shard = Shards(
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        torch.from_numpy(held)[None],
    )

    def learn(weights: Vector, round_: int) -> Vector:
        order = sample_order(
            seed, round_, (0,), plan.epochs, len(held), Purpose.SERVER_SAMPLE_ORDER
        )
        seeds = keys(seed, Purpose.SERVER_TRAINING, round_, (0,), 1)[:, 0]
        update: Vector = train(model, weights, shard, plan, order, task, seeds)[0]
        return update

    return learn
