"""History attack, a baseline of MPAF's paper (arXiv 2203.08669): g = -λ (w_t - w_{t-1}).

It undoes, λ times over, what the last accepted round brought; in the first round it sends zeros.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, LocalTraining, RoundContext
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import attack


@attack(report="The fakes hold no data: they push the model back against its last steps.")
def history(attack: AttackContext) -> LocalTraining:
    """Build the learner of fakes who walk backwards; ``world.scale`` is λ."""
    scale = np.float32(attack.scale)

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        before = weights if context.previous is None else context.previous
        with np.errstate(over="ignore", invalid="ignore"):
            step = -scale * (weights - before)
        return np.broadcast_to(step, (len(context.members), len(step)))

    return learn
