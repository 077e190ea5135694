"""Local outlier factors (Breunig et al., SIGMOD 2000), with a floor under the distances.

With d the Euclidean distance, N(p) the k nearest neighbours of p and kdist(o) the distance
from o to the farthest of N(o):

    reach(p, o) = max(kdist(o), d(p, o), floor)
    lrd(p)      = 1 / mean of reach(p, o) over o in N(p)
    LOF(p)      = mean of lrd(o) over o in N(p) / lrd(p)

All is done for m sets of points at once: the first axis says which set.

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

Array = npt.NDArray[np.float64]


class Known(NamedTuple):
    """What m sets of l points are, to those who are scored against them."""

    near: Neighbours
    """Of each point in its set."""
    density: Array
    """(m, l): the local reachability densities lrd."""


class Neighbours(NamedTuple):
    """The k nearest points of each of q points in m sets, nearest first."""

    number: npt.NDArray[np.intp]
    """(m, q, k): their place in the set."""
    distance: Array
    """(m, q, k): the last of an axis is kdist."""


def distances(points: Array) -> Array:
    """Measure between the points (m, l, p) of each set, as (m, l, l); to itself a point has inf.

    So no point is its own neighbour, but its twin may be. By differences, for equal points to be
    at 0; from one point after the other, to need no (m, l, l, p).
    """
    sets, count, _ = points.shape
    between = np.full((sets, count, count), np.inf)
    for i in range(count - 1):
        difference = points[:, i + 1 :] - points[:, i : i + 1]
        squares = np.einsum("mlp,mlp->ml", difference, difference)
        between[:, i, i + 1 :] = between[:, i + 1 :, i] = np.sqrt(squares)
    return between


def densities(between: Array, k: int, floor: float) -> Known:
    """Find neighbours and densities of the points of each set, from their distances (m, l, l).

    Raises
    ------
    ValueError
        If not 1 <= k < l.
    """
    if not 1 <= k < between.shape[1]:
        raise ValueError(f"{between.shape[1]} points have no {k} neighbours each")
    near = _nearest(between, k)
    return Known(near, _density(near, near.distance[:, :, -1], floor))


def local_outlier_factors(known: Known) -> Array:
    """Score each point among the others of its set, as (m, l).

    A score is about 1 inside a cluster and larger outside.
    """
    return _factors(known.near, known.density, known.density)


def novelty_factors(queries: Array, known: Known, floor: float) -> Array:
    """Score q points against a set that they are not in, from distances (m, q, l), as (m, q)."""
    near = _nearest(queries, known.near.number.shape[2])
    own = _density(near, known.near.distance[:, :, -1], floor)
    return _factors(near, known.density, own)


def _nearest(between: Array, k: int) -> Neighbours:
    number = np.argsort(between, axis=2, kind="stable")[:, :, :k]
    return Neighbours(number, np.take_along_axis(between, number, axis=2))


def _density(near: Neighbours, kdist: Array, floor: float) -> Array:
    """Compute lrd (m, q), given kdist (m, l) of the set."""
    reach = np.maximum(np.maximum(_of(near, kdist), near.distance), floor)
    density: Array = 1 / reach.mean(axis=2)
    return density


def _factors(near: Neighbours, density: Array, own: Array) -> Array:
    """Compare densities (m, l) of the neighbours with one's own (m, q)."""
    factors: Array = _of(near, density).mean(axis=2) / own
    return factors


def _of(near: Neighbours, values: Array) -> Array:
    """Pick the neighbours' values out of (m, l), as (m, q, k)."""
    return np.take_along_axis(values[:, None], near.number, axis=2)
