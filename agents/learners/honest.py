"""Honest training: every called member runs SGD on its own data, all in one batch."""

from __future__ import annotations

import torch

from agents.learners.learner import Called, Learner, World
from learning.training import train, visits
from learning.weights import Matrix, Vector


def honest(world: World) -> Learner:
    """Build the learner of genuine agents."""
    samples = world.data.indices.shape[1]

    def learn(weights: Vector, called: Called) -> Matrix:
        rows = torch.tensor([world.row[i] for i in called.members])
        own = world.data._replace(indices=world.data.indices[rows])
        order = visits(called.seed, called.round, called.members, world.plan.epochs, samples)
        return train(world.model, weights, own, world.plan, order)

    return learn
