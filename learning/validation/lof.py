"""Local outlier factors (Breunig et al., SIGMOD 2000), with a floor under the distances.

With d the Euclidean distance, N(p) the k nearest neighbours of p and kdist(o) the distance
from o to the farthest of N(o):

    reach(p, o) = max(kdist(o), d(p, o), floor)
    lrd(p)      = 1 / mean of reach(p, o) over o in N(p)
    LOF(p)      = mean of lrd(o) over o in N(p) / lrd(p)

**Ties.** N(p) has exactly k members, as in scikit-learn; the paper takes all at the k-th
distance. Of equally distant points the earlier one is nearer.

**The floor.** In a heap of more than k equal points kdist is 0 and the density infinite;
scikit-learn keeps it finite with 1e-10, so that a point beside the heap scores up to 1e8.
Class-wise errors on a small data set D repeat all the time, being multiples of 1/|D|, and one
such score in the mean that makes a threshold would mean "never reject again". So the distance
in a density is at least the resolution of the measurement: the floor is 1/|D|. Points that
differ do so by 1/|D| in some coordinate, so no distance but zero is ever lifted, and without
heaps the scores are the paper's. In a heap LOF is 1, at distance d from a heap it is d |D|.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(l, p): one row a point."""

Scores = npt.NDArray[np.float64]
"""(l,): one score a point; about 1 inside a cluster, larger outside."""


def local_outlier_factors(reference: Points, k: int, floor: float) -> Scores:
    """Score each point of (l, p) among the others, as (l,).

    Raises
    ------
    ValueError
        If not 1 <= k < l.
    """
    near, density = _densities(reference, k, floor)
    return _factors(near, density, density)


def novelty_factors(queries: Points, reference: Points, k: int, floor: float) -> Scores:
    """Score each query of (m, p) against a reference (l, p) it is no part of, as (m,).

    Raises
    ------
    ValueError
        If not 1 <= k < l.
    """
    known, density = _densities(reference, k, floor)
    near = _nearest(_distances(queries, reference), k)
    return _factors(near, density, _density(near, known.distance[:, -1], floor))


class _Neighbours(NamedTuple):
    """The k nearest points of each of m points, nearest first."""

    number: npt.NDArray[np.intp]
    """(m, k): their row in the reference."""
    distance: npt.NDArray[np.float64]
    """(m, k): the last column is kdist."""


def _densities(reference: Points, k: int, floor: float) -> tuple[_Neighbours, Scores]:
    if not 1 <= k < len(reference):
        raise ValueError(f"{len(reference)} points have no {k} neighbours each")
    between = _distances(reference, reference)
    np.fill_diagonal(between, np.inf)  # no point is its own neighbour, but its twin may be
    near = _nearest(between, k)
    return near, _density(near, near.distance[:, -1], floor)


def _distances(points: Points, others: Points) -> npt.NDArray[np.float64]:
    """Measure (m, p) against (l, p) as (m, l); by differences, so that equal points are at 0."""
    difference = points[:, None] - others[None]
    squares: npt.NDArray[np.float64] = np.einsum("mlp,mlp->ml", difference, difference)
    return np.sqrt(squares)


def _nearest(distances: npt.NDArray[np.float64], k: int) -> _Neighbours:
    number = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return _Neighbours(number, np.take_along_axis(distances, number, axis=1))


def _density(near: _Neighbours, kdist: Scores, floor: float) -> Scores:
    """Compute the local reachability density lrd (m,), given kdist (l,) of the reference."""
    reach = np.maximum(np.maximum(kdist[near.number], near.distance), floor)
    density: Scores = 1 / reach.mean(axis=1)
    return density


def _factors(near: _Neighbours, reference: Scores, own: Scores) -> Scores:
    """Compare densities (l,) of the neighbours with one's own (m,)."""
    factors: Scores = reference[near.number].mean(axis=1) / own
    return factors
