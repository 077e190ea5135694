"""The Gaussian attack (Fang et al., USENIX Security 2020): noise that looks like updates.

For each coordinate a Gaussian is fitted to the attackers' honest updates, and each attacker
draws from it for itself.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, RoundContext
from fedjury.attacks.colluding import Collusion, Strategy, moments
from fedjury.attacks.honest import honest
from fedjury.learning.weights import Matrix
from fedjury.registry import attack


@attack(colludes=True, report="They collude: noise about as strong as their honest updates.")
def gaussian(attack: AttackContext, strength: float = 1.0) -> Collusion:
    """Build the collusion; ``strength`` multiplies the deviation that was fitted."""

    def plot(updates: Matrix, _: RoundContext) -> Strategy:
        mean, deviation = moments(updates)
        with np.errstate(over="ignore", invalid="ignore"):
            return Strategy(mean, np.float32(strength) * deviation)

    return Collusion(honest(attack), plot)
