"""Random updates, a baseline of MPAF's paper (arXiv 2203.08669): g = λ ε with ε ~ N(0, I)."""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, LocalTraining, RoundContext
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import attack


@attack(report="The fakes hold no data: they send noise.")
def random(attack: AttackContext) -> LocalTraining:
    """Build the learner of fakes who send noise, each its own; ``world.scale`` is λ."""
    scale = np.float32(attack.scale)

    def learn(weights: Vector, context: RoundContext) -> Matrix:
        draws = [rng.standard_normal(len(weights), dtype=np.float32) for rng in context.rngs()]
        return scale * np.stack(draws)

    return learn
