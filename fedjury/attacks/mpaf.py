"""MPAF: model poisoning based on fake clients (Cao, Gong: CVPR workshops 2022, arXiv 2203.08669).

A fake has no data. It fixes a base model w', a random initialisation, the same for all fakes, and
whenever it is called sends g = λ (w' - w_t): a step towards a model that knows nothing, so large
that an undefended mean follows it.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, LocalTraining, RoundContext
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import attack


def step(weights: Vector, base: Vector, scale: float) -> Vector:
    """Return a fake's update (d,): ``scale`` times the way from the global weights to ``base``."""
    with np.errstate(over="ignore", invalid="ignore"):  # on purpose: λ = 1e6 overflows in time
        return np.float32(scale) * (base - weights)


@attack(
    report="The fakes hold no data: they push the model towards a random one, all the same way."
)
def mpaf(attack: AttackContext) -> LocalTraining:
    """Build the learner of MPAF's fakes; ``world.scale`` is λ."""
    base = attack.fresh()

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        update = step(weights, base, attack.scale)
        return np.broadcast_to(update, (len(context.members), len(update)))

    return learn
