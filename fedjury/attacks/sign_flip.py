"""Sign flipping: an honest update the wrong way round, -c δ (Li et al., RSA: AAAI 2019)."""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, LocalTraining, RoundContext
from fedjury.attacks.honest import honest
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import attack


@attack(holds_data=True, report="They send the opposite of their updates.")
def sign_flip(attack: AttackContext, factor: float = 1.0) -> LocalTraining:
    """Build the learner of attackers who undo, ``factor`` times over, what they learnt."""
    train, times = honest(attack), np.float32(-factor)

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        with np.errstate(over="ignore", invalid="ignore"):
            return times * train(weights, context)

    return learn
