"""Inner-product manipulation (Xie, Koyejo, Gupta: Fall of Empires, UAI 2019): -ε mean.

What the rule makes of it is to point away from the honest mean: for a plain mean that takes
ε > (n - m) / m; robust rules that pick updates near each other are misled by a small ε.
"""

from __future__ import annotations

import numpy as np

from fedjury.attacks.attack import AttackContext, RoundContext
from fedjury.attacks.colluding import Collusion, Strategy, moments
from fedjury.attacks.honest import honest
from fedjury.learning.weights import Matrix
from fedjury.registry import attack


@attack(
    colludes=True,
    report="They collude: the opposite of their mean update.",
)
def ipm(attack: AttackContext, epsilon: float = 0.1) -> Collusion:
    """Build the collusion; the mean is that of the attackers' honest updates."""

    def plot(updates: Matrix, _: RoundContext) -> Strategy:
        with np.errstate(over="ignore", invalid="ignore"):
            return Strategy(np.float32(-epsilon) * moments(updates)[0])

    return Collusion(honest(attack), plot)
