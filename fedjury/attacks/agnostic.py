"""AGR-agnostic attacks (Shejwalkar, Houmansadr: NDSS 2021): mean + gamma p, and not too far.

p points away from the mean; gamma is the largest that keeps what is sent as near to the honest
updates as these are to each other, by one measure or another. The paper finds it by bisection. Both
measures are quadratic in gamma: so it is a root, and no vector has to be built to try one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fedjury.attacks.attack import AttackContext, RoundContext
from fedjury.attacks.colluding import Collusion, Strategy, moments
from fedjury.attacks.honest import honest
from fedjury.learning.weights import Matrix, Vector
from fedjury.registry import unknown

BLOCK = 65_536
"""Coordinates that are turned into float64 at a time."""

Values = npt.NDArray[np.float64]

DEVIATIONS: dict[str, Callable[[Vector, Vector], Vector]] = {
    "std": lambda _, deviation: -deviation,
    "sign": lambda mean, _: -np.sign(mean),
    "unit": lambda mean, _: -mean / max(np.linalg.norm(mean), np.float32(1e-30)),
}
"""What p is, of mean and standard deviation (d,)."""


class Spacing(NamedTuple):
    """How far apart updates g_i are, squared: from each other, and from mean + gamma p.

    The latter is own + 2 gamma along + gamma² length.
    """

    between: Values
    """(m, m): ‖g_i - g_j‖²."""
    own: Values
    """(m,): ‖mean - g_i‖²."""
    along: Values
    """(m,): the inner product of p and mean - g_i."""
    length: float
    """‖p‖²."""


def agnostic(
    attack: AttackContext, deviation: str, largest: Callable[[Spacing], float]
) -> Collusion:
    """Build the collusion that goes as far along a ``deviation`` as ``largest`` allows."""
    if deviation not in DEVIATIONS:
        raise unknown("deviation", deviation, DEVIATIONS)

    def plot(updates: Matrix, _: RoundContext) -> Strategy:
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = moments(updates)
            p = DEVIATIONS[deviation](mean, std)
            gamma = largest(spacing(mean - updates, p))
            return Strategy(mean + np.float32(gamma) * p)

    return Collusion(honest(attack), plot)


def spacing(back: Matrix, p: Vector) -> Spacing:
    """Measure ``back``, mean - g_i (m, d), and p (d,) by their inner products alone.

    The products are torch's, which keeps to the one thread that a process of agents has.
    """
    rows = torch.from_numpy(np.vstack([back, p]))
    gram = torch.zeros((len(rows), len(rows)), dtype=torch.float64)
    for start in range(0, len(p), BLOCK):
        values = rows[:, start : start + BLOCK].double()
        gram += values @ values.T
    products = gram.numpy()
    inner, along = products[:-1, :-1], products[:-1, -1]
    own = inner.diagonal()
    return Spacing(own[:, None] + own - 2 * inner, own, along, float(products[-1, -1]))


def root(square: float, half: Values, rest: Values) -> Values:
    """Return the largest x >= 0 with square x² + 2 half x + rest <= 0; 0 where p leads nowhere."""
    if square == 0:
        return np.zeros_like(half)
    inside = np.maximum(half**2 - square * rest, 0)  # below 0 by rounding alone
    return np.maximum((np.sqrt(inside) - half) / square, 0)
