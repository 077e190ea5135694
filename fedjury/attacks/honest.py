"""Honest training: every called member runs SGD on its own data, all in one batch."""

from __future__ import annotations

import math

import torch

from fedjury.attacks.attack import AttackContext, LocalTraining, RoundContext
from fedjury.learning.shards import sample_order
from fedjury.learning.training import train
from fedjury.learning.weights import Matrix, Vector
from fedjury.randomness import Purpose, keys

FEWEST_SAMPLES = 32
"""Samples in a batch of agents, at the least, where a process has more than one agent.

Products of fewer rows are added up in another order (MKL on x86), and the bits of what a member
learns would depend on how many are called with it. Copies of a member fill the batch up, of one
with fewest samples.
"""


def honest(attack: AttackContext) -> LocalTraining:
    """Build the learner of genuine agents, and of attackers between their strikes."""
    samples = attack.data.indices.shape[1]
    batch = min(attack.plan.batch_size, samples)
    fewest = 1 if len(attack.row) == 1 else max(2, math.ceil(FEWEST_SAMPLES / batch))

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        members = context.members + context.members[-1:] * (fewest - len(context.members))
        rows = torch.tensor([attack.row[i] for i in members])
        own = attack.data.of(rows)
        held = samples if own.held is None else own.held.numpy()
        order = sample_order(context.seed, context.round, members, attack.plan.epochs, held)
        seeds = keys(context.seed, Purpose.TRAINING, context.round, members, 1)[:, 0]
        return train(attack.model, weights, own, attack.plan, order, attack.task, seeds)[
            : len(context.members)
        ]

    return learn
