"""Honest training: every called member runs SGD on its own data, all in one batch."""

from __future__ import annotations

import math

import torch

from fedjury.attacks.learner import Called, Learner, World
from fedjury.learning.training import train, visits
from fedjury.learning.weights import Matrix, Vector

FEWEST_SAMPLES = 32
"""Samples in a batch of agents, at the least, where a process has more than one agent.

Products of fewer rows are added up in another order (MKL on x86), and the bits of what a member
learns would depend on how many are called with it. Copies of a member fill the batch up.
"""


def honest(world: World) -> Learner:
    """Build the learner of genuine agents, and of attackers between their strikes."""
    samples = world.data.indices.shape[1]
    batch = min(world.plan.batch_size, samples)
    fewest = 1 if len(world.row) == 1 else max(2, math.ceil(FEWEST_SAMPLES / batch))

    def learn(weights: Vector, called: Called) -> Matrix:
        members = called.members + called.members[:1] * (fewest - len(called.members))
        rows = torch.tensor([world.row[i] for i in members])
        own = world.data._replace(indices=world.data.indices[rows])
        order = visits(called.seed, called.round, members, world.plan.epochs, samples)
        return train(world.model, weights, own, world.plan, order)[: len(called.members)]

    return learn
