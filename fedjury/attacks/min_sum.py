"""Min-sum (Shejwalkar, Houmansadr: NDSS 2021): no more distant in all than any honest update.

Σ_i ‖mean + gamma p - g_i‖² <= max_i Σ_j ‖g_i - g_j‖²

The bound is the paper's; some public code takes min_i instead of max_i.
"""

from __future__ import annotations

from fedjury.attacks.agnostic import Spacing, agnostic, root
from fedjury.attacks.attack import AttackContext
from fedjury.attacks.colluding import Collusion
from fedjury.registry import attack


@attack(
    colludes=True,
    report="They collude: as far off as the honest updates are from each other in total.",
)
def min_sum(attack: AttackContext, deviation: str = "std") -> Collusion:
    """Build the collusion; ``deviation``: std, sign or unit, what p is the negative of."""
    return agnostic(attack, deviation, most_distant)


def most_distant(apart: Spacing) -> float:
    """Return the largest gamma."""
    most = apart.between.sum(axis=1).max()
    together = apart.along.sum(keepdims=True), apart.own.sum(keepdims=True) - most
    return float(root(len(apart.own) * apart.length, *together)[0])
