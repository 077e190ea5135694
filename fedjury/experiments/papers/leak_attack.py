"""What sums of many rounds tell of single agents: the attack of least squares over rounds.

So et al., "Securing Secure Aggregation" (2021, arXiv 2106.03328): where groups change, sums of
enough rounds can be solved for what single agents send, as far as that stays the same. It is the
attack of an aggregator that follows the protocol and keeps what it learns. Here it measures what
groups leak; nothing of a run uses it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.floating]

NOTHING = 1e-9
"""Share of the largest eigenvalue below which sums say nothing in that direction."""


class Equations:
    """What an aggregator has noted: in each round the mean of each group, and who was in it."""

    def __init__(self, agents: int, length: int) -> None:
        """``length``: of a mean."""
        self._normal = np.zeros((agents, agents))
        self._right = np.zeros((agents, length), np.float32)

    def add(self, groups: Sequence[Sequence[int]], means: npt.ArrayLike) -> None:
        """Add the means (g, d) of a round's groups; ``groups``: numbers of agents, each in one."""
        for members, mean in zip(groups, np.asarray(means, np.float32), strict=True):
            share = 1 / len(members)
            self._normal[np.ix_(members, members)] += share**2
            self._right[[*members]] += np.float32(share) * mean

    def solved(self, damping: float = 0.0) -> Rows:
        """Return what each agent sends, (n, d), if it sent the same in each round.

        Least squares, and of all that fit the shortest: where the sums do not tell members apart
        each is taken to send the same. ``damping``: against noise, what a solution costs by its
        length, as a share of what the best known direction of agents is known by.
        """
        known, directions = np.linalg.eigh(self._normal)
        most = float(known[-1])
        kept = known > NOTHING * most
        scaled = directions[:, kept] / (known[kept] + damping * most)
        result: Rows = scaled @ (directions[:, kept].T @ self._right)
        return result


def cosines(found: Rows, true: Rows) -> Rows:
    """Return the cosines (n, m) of vectors (n, d) with vectors (m, d); 0 where one is zero."""
    lengths = np.linalg.norm(found, axis=1)[:, None] * np.linalg.norm(true, axis=1)
    products = found @ true.T
    result: Rows = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return result


def told_apart(alike: Rows) -> float:
    """Return how often what was found of an agent (n, n) is most like that agent's own update.

    Where several are equally alike, one of them is guessed.
    """
    best = alike.max(axis=1, keepdims=True)
    ties = np.isclose(alike, best, rtol=0, atol=1e-9)
    return float((np.diagonal(ties) / ties.sum(axis=1)).mean())
