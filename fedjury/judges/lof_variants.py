"""Four readings of what the trusted variations are scored against.

BAFFLE (Andreina et al., ICDCS 2021) makes its threshold from the LOF of the last floor(l / 4) of
v_1 … v_l, and does not say against which set. A point is scored either among the others of a
set that it is in, or as a newcomer against a set that it is not in.

    A  v_i among v_1 … v_l
    B  v_i as a newcomer against the earlier ones, v_1 … v_{i-1}
    C  v_i as a newcomer against all others, v_1 … v_l without v_i
    D  v_i among v_1 … v_l and v_new

v_new is a newcomer against v_1 … v_l, but for D, where it is one of the set like all others.
k = ceil(l / 2) in a set with v_1 … v_l, and in smaller sets half of what is there, rounded up: for
C it is ceil((l - 1) / 2), which is the same if l is even. A set needs two points for a newcomer
to be scored, so B and C need l = 3. Heaps of equal variations are no special case in any of
them: see the floor in ``lof``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.judges.lof import Known, Whole, densities, local_outlier_factors, novelty_factors
from fedjury.judges.sums import Array


class Scores(NamedTuple):
    """Local outlier factors in m sets of variations."""

    trusted: Array
    """(m, floor(l / 4)): of the latest accepted variations, at least of one."""
    new: Array
    """(m,): of v_new."""


class LofVariant(NamedTuple):
    """One reading, and how many variations it takes."""

    scores: Callable[[Whole], Scores]
    """Of squared distances (m, l+1, l+1) between v_1 … v_l and v_new."""
    least: int
    """The smallest l that it works with."""


def neighbours(points: int) -> int:
    """Say how many neighbours k a point has in a set of variations: half of them, rounded up."""
    return (points + 1) // 2


def trusted_count(points: int) -> int:
    """Say how many of the latest of l variations make the threshold: a quarter, at least one."""
    return max(1, points // 4)


def among_accepted(between: Whole) -> Scores:
    """Score trusted ones among all accepted ones: reading A."""
    known, new = _newcomer(between)
    scores = local_outlier_factors(known)
    return Scores(scores[:, -trusted_count(scores.shape[1]) :], new)


def against_earlier(between: Whole) -> Scores:
    """Score each trusted one as the newcomer that it once was: reading B."""
    return _as_newcomers(between, lambda _last, i: np.arange(i))


def against_others(between: Whole) -> Scores:
    """Score each trusted one as a newcomer to a set without it: reading C."""
    return _as_newcomers(between, lambda last, i: np.delete(np.arange(last), i))


def among_all(between: Whole) -> Scores:
    """Score trusted ones and the new one in one set: reading D."""
    last = between.shape[1] - 1
    scores = local_outlier_factors(densities(between, neighbours(last)))
    return Scores(scores[:, last - trusted_count(last) : last], scores[:, last])


LOF_VARIANTS = {
    "A": LofVariant(among_accepted, least=2),
    "B": LofVariant(against_earlier, least=3),
    "C": LofVariant(against_others, least=3),
    "D": LofVariant(among_all, least=2),
}


def _newcomer(between: Whole) -> tuple[Known, Array]:
    """Score the last point of each set against all before; returns what these are, and (m,)."""
    known = densities(between[:, :-1, :-1], neighbours(between.shape[1] - 1))
    return known, novelty_factors(between[:, -1:, :-1], known)[:, 0]


def _as_newcomers(between: Whole, others: Callable[[int, int], npt.NDArray[np.intp]]) -> Scores:
    """Score trusted ones as newcomers; ``others`` (l, i) says against which, as numbers from 0."""
    last = between.shape[1] - 1
    trusted = []
    for i in range(last - trusted_count(last), last):
        chosen = np.append(others(last, i), i)
        trusted.append(_newcomer(between[:, chosen[:, None], chosen])[1])
    return Scores(np.stack(trusted, axis=1), _newcomer(between)[1])
