"""Min-max (Shejwalkar, Houmansadr: NDSS 2021): no further from any update than the farthest pair.

max_i ‖mean + gamma p - g_i‖ <= max_ij ‖g_i - g_j‖
"""

from __future__ import annotations

from fedjury.attacks.agnostic import Spacing, agnostic, root
from fedjury.attacks.attack import AttackContext
from fedjury.attacks.colluding import Collusion
from fedjury.registry import attack


@attack(
    colludes=True,
    report="They collude: as far off as the farthest honest updates are from each other.",
)
def min_max(attack: AttackContext, deviation: str = "std") -> Collusion:
    """Build the collusion; ``deviation``: std, sign or unit, what p is the negative of."""
    return agnostic(attack, deviation, farthest)


def farthest(apart: Spacing) -> float:
    """Return the largest gamma."""
    return float(root(apart.length, apart.along, apart.own - apart.between.max()).min())
