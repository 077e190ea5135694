"""A Little Is Enough (Baruch, Baruch, Goldberg: NeurIPS 2019): mean - z deviation.

With m attackers of n agents, s = floor(n / 2 + 1) - m honest ones more make a majority. So many
are likely further from the mean than z deviations, to the same side, where z is the quantile
(n - m - s) / (n - m) of the normal distribution: they seem to support what the attackers send.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from fedjury.attacks.attack import AttackContext, RoundContext
from fedjury.attacks.colluding import Collusion, Strategy, moments
from fedjury.attacks.honest import honest
from fedjury.learning.weights import Matrix
from fedjury.registry import attack

LARGEST = 0.999
"""The quantile of attackers who are a majority by themselves, for whom any z would do."""


@attack(
    colludes=True,
    report="They collude: small shifts that hide among the honest differences.",
)
def alie(attack: AttackContext, z: float | None = None) -> Collusion:
    """Build the collusion; ``z`` as the paper has it, if it is not given."""

    def plot(updates: Matrix, context: RoundContext) -> Strategy:
        mean, deviation = moments(updates)
        away = largest_z(context.contributors, context.attackers) if z is None else z
        with np.errstate(over="ignore", invalid="ignore"):
            return Strategy(mean - np.float32(away) * deviation)

    return Collusion(honest(attack), plot)


def largest_z(n: int, m: int) -> float:
    """Return the paper's z for m attackers of n agents, from 0 to 3.09.

    With few attackers the quantile is below one half, and the paper's z below 0: so they would push
    the model the right way. It is held at 0.
    """
    supporters = n // 2 + 1 - m
    share = (n - m - supporters) / (n - m) if supporters > 0 else 1.0
    return NormalDist().inv_cdf(min(max(share, 0.5), LARGEST))
