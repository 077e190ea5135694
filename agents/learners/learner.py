"""What all learners share: who is called, and the world they learn in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import nn

from learning.training import Shards, Training
from learning.weights import Matrix, Vector


class Called(NamedTuple):
    """The members a learner answers for in a round."""

    round: int
    members: tuple[int, ...]
    """Their numbers in the whole fleet, ascending."""
    seed: int
    previous: Vector | None = None
    """The global model (d,) of the version before, if there was one."""

    def rngs(self) -> list[np.random.Generator]:
        """Make each member's own generator, from (seed, round, agent) alone."""
        return [np.random.default_rng([self.seed, self.round, i]) for i in self.members]


Learner = Callable[[Vector, Called], Matrix]
"""Global weights (d,), the m called members -> their deltas (m, d), which may be read-only."""


class World(NamedTuple):
    """What a learner can be built from; each takes what it needs."""

    model: nn.Module
    plan: Training
    data: Shards
    """The data of the genuine members of this process, a row of indices each."""
    row: dict[int, int]
    """A genuine member's number in the fleet -> its row in ``data``."""
    scale: float
    fresh: Callable[[], Vector]
    """Draw the fakes' base model (d,): a random initialisation, the same for all fakes."""


def dormant(learner: Learner, start: int) -> Learner:
    """Make a learner that sends zeros until round ``start``: fakes that lie low."""

    def learn(weights: Vector, called: Called) -> Matrix:
        if called.round < start:
            return np.broadcast_to(np.zeros_like(weights), (len(called.members), len(weights)))
        return learner(weights, called)

    return learn
