"""How many neighbours an agent of a group masks its update with, and how many of them undo that.

Theorem 3.10 of Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead" (CCS
2020), as Google's implementation works it out. Probabilities are compared as whole numbers.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil, comb
from typing import NamedTuple

SECRET = Fraction(1, 2**40)
"""The chance that somebody's update is not hidden; half of it for each way in which it can be."""

LOST = Fraction(1, 2**20)
"""The chance that a group is lost though no more than the stated share drops out."""


class Parameters(NamedTuple):
    """Of one group's secure aggregation."""

    degree: int
    """k: neighbours of each agent."""
    threshold: int
    """t: how many of them it takes to undo a mask."""


@lru_cache(maxsize=256)
def parameters(
    n: int, colluding: float, dropping: float, *, semi_malicious: bool = False
) -> Parameters:
    """Return the least degree, and its threshold, for n agents.

    ``colluding``: the largest share of them who tell the server all they know. ``dropping``: the
    largest share who may leave in mid-protocol. ``semi_malicious``: the server may also tell agents
    different things of who is alive. Where no part of a group would do, all are neighbours.

    Raises
    ------
    ValueError
        If there is no such threshold.
    """
    bad, gone = _of(colluding, n), _of(dropping, n)
    alive = n - gone
    for degree in range(2, n - 1, 2):
        if not _connected(n, degree, bad + gone):
            continue
        low = _most_colluding(n, bad, degree)
        if semi_malicious:
            low = ceil((low + degree - 1.25) / 2)
        threshold = max(low + 1, 2)
        if _fewest_alive(n, alive, degree) >= threshold:
            return Parameters(degree, threshold)
    return _all_with_all(n, bad, alive, semi_malicious=semi_malicious)


def _of(share: float, n: int) -> int:
    """Return how many of n a share is, rounded down: .29 of 100 are 29, where floats say 28."""
    return int(Fraction(str(share)) * n)


def _all_with_all(n: int, bad: int, alive: int, *, semi_malicious: bool) -> Parameters:
    """Return the parameters of a group all of whose members are neighbours (Bonawitz et al. 2017).

    Where drop-outs leave room for it the threshold is a majority, so that no two sets of neighbours
    can be told different things.
    """
    degree, most = n - 1, alive - 1
    least = max(bad + 1, 2)
    majority = (degree + bad) // 2 + 1
    threshold = majority if semi_malicious else max(least, min(most, degree // 2 + 1))
    if n < 3 or threshold > most:
        raise ValueError(
            f"no secure aggregation of {n} agents stands {bad} that collude and {n - alive} that "
            "drop out: take larger groups, or smaller shares"
        )
    return Parameters(degree, threshold)


def _connected(n: int, degree: int, away: int) -> bool:
    """Say whether the neighbours who are left are surely connected, without so many colluding."""
    if degree > away:
        return True
    chance = Fraction(n * (n - degree - 1), 2) * Fraction(comb(away, degree), comb(n, degree))
    return chance < SECRET / 2


def _most_colluding(n: int, bad: int, degree: int) -> int:
    """Return a number of colluding neighbours that is surely not exceeded, by anyone of n."""
    limit = SECRET / 2 / n * comb(n, degree)
    more = 0
    for found in range(min(degree, bad), -1, -1):
        more += comb(bad, found) * comb(n - bad, degree - found)
        if more > limit:
            return found
    return 0


def _fewest_alive(n: int, alive: int, degree: int) -> int:
    """Return a number of neighbours still there that is surely reached, by everyone of n."""
    limit = LOST / n * comb(n, degree)
    fewer = 0
    for found in range(degree + 1):
        fewer += comb(alive, found) * comb(n - alive, degree - found)
        if fewer >= limit:
            return found
    return degree
