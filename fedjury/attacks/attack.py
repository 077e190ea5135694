"""What all learners share: who is called, and the world they learn in."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from fedjury.judges.judgements import Judge
from fedjury.learning.backdoors.backdoor import Backdoor
from fedjury.learning.shards import Shards
from fedjury.learning.task import Task
from fedjury.learning.training import Training
from fedjury.learning.weights import Matrix, Vector
from fedjury.randomness import Purpose, stream


class RoundContext(NamedTuple):
    """The members a learner answers for in a round."""

    round: int
    members: tuple[int, ...]
    """Their numbers in the whole fleet, those with most samples first, else ascending."""
    seed: int
    history: tuple[Vector, ...] = ()
    """Accepted models (d,) as far as judges look back, oldest first, the current one last."""
    contributors: int = 1
    """How many agents of the whole fleet are called in this round."""

    @property
    def previous(self) -> Vector | None:
        """The global model (d,) of the version before, if there was one."""
        return self.history[-2] if len(self.history) > 1 else None

    attackers: int = 0
    """How many malicious agents are called in the round; 0: all there are."""

    def rngs(self) -> list[np.random.Generator]:
        """Make each member's own generator in this round."""
        return [stream(self.seed, Purpose.ATTACK, self.round, i) for i in self.members]


LocalTraining = Callable[[Vector, RoundContext], Matrix]
"""Global weights (d,), the m called members -> their deltas (m, d), which may be read-only."""


class BackdoorConfig(NamedTuple):
    """How attackers who hold data put a backdoor into the model."""

    rounds: frozenset[int]
    """When; in all other rounds they train honestly."""
    backdoor: Backdoor
    pool: torch.Tensor
    """(s,) int64: the numbers of all attackers' samples, which they have put together."""
    attackers: int
    """How many of them share one injection."""
    boost: float
    """Gamma, which multiplies the step to their model; 0: what it takes, see ``replacing``."""
    rule: str
    """The aggregator's, by name."""
    server_lr: float
    share: float
    """Poisoned samples of all that their model is trained on, 0..1."""
    epochs: int
    """Passes over these."""
    learning_rate: float
    """Of these; batch size and momentum are those of the honest."""
    alpha: float
    """Constrain-and-scale: weight of the task's loss, 1 - alpha that of the distance; 1: off."""
    judge: Judge | None = None
    """What an adaptive attacker knows of the validators; None: it takes everything to pass."""
    clean: bool = False
    """Whether an adaptive attacker judges on the clean part of its data alone."""
    weight: float = 1.0
    """How many times as much as an honest update one of theirs weighs, by the samples claimed."""
    group_size: int = 0
    """Of the groups whose mean is to become their model, one of them in each; 0: the round's."""


class AttackContext(NamedTuple):
    """What a learner can be built from; each takes what it needs."""

    task: Task
    model: nn.Module
    plan: Training
    data: Shards
    """The data of those members of this process who hold any, a row of indices each."""
    row: dict[int, int]
    """The number in the fleet of a member with data -> its row in ``data``."""
    scale: float
    fresh: Callable[[], Vector]
    """Draw the fakes' base model (d,): a random initialisation, the same for all fakes."""
    backdoor: BackdoorConfig | None = None
    """Of attackers who hold data; None: they never strike."""
    send: Callable[[int, float], None] = lambda _round, _strength: None
    """Told by attackers in which round they strike, and with what share of the step they trained
    for; 0: they stood down. For experiments, which have to know the truth."""


def zeros(weights: Vector, context: RoundContext) -> Matrix:
    """Learn nothing (m, d): what fakes do who are idle."""
    return np.broadcast_to(np.zeros_like(weights), (len(context.members), len(weights)))


def idle_until(learner: LocalTraining, start: int, before: LocalTraining = zeros) -> LocalTraining:
    """Make a learner that does as ``before`` until round ``start``."""

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        return (before if context.round < start else learner)(weights, context)

    return learn
