"""Local outlier factors (Breunig et al., SIGMOD 2000) of points whose coordinates are counts.

With d the Euclidean distance, N(p) the k nearest neighbours of p and kdist(o) the distance
from o to the farthest of N(o):

    reach(p, o) = max(kdist(o), d(p, o), 1)
    lrd(p)      = k / sum of reach(p, o) over o in N(p)
    LOF(p)      = (sum of lrd(o) over o in N(p) / k) / lrd(p)

All is done for m sets of points at once: the first axis says which set.

**Whole numbers.** Counts tie all the time, and which of two equally distant points is a neighbour
can change a score by half. So all that is compared are squares of distances, which are whole
numbers: what ties, ties. A root is only taken of what is added up, and sums run from the nearest
neighbour to the farthest. Roots, sums and quotients of single numbers are rounded in one way alone
(IEEE 754), so that a score has the same bits on every machine.

**Ties.** N(p) has exactly k members, as in scikit-learn; the paper takes all at the k-th
distance. Of equally distant points the earlier one is nearer.

**The floor.** In a heap of more than k equal points kdist is 0 and the density infinite;
scikit-learn keeps it finite with 1e-10, so that a point beside the heap scores up to 1e8.
Class-wise errors on a small data set repeat all the time, and one such score in the mean that
makes a threshold would mean "never reject again". So the distance in a density is at least the
resolution of the measurement: one error. Points that differ do so by 1 in some coordinate, so no
distance but zero is ever lifted, and without heaps the scores are the paper's. In a heap LOF is 1,
at distance d from a heap it is d.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fedjury.judges.sums import Array, in_order

Whole = npt.NDArray[np.int64]

N = TypeVar("N", np.int64, np.float64)

FAR = np.iinfo(np.int64).max
"""From a point to itself: no point is its own neighbour, but its twin may be."""


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
    square: Whole
    """(m, q, k): of their distance; the last of an axis is that of kdist."""


def squares(points: Whole) -> Whole:
    """Square the distances between the points (m, l, p) of each set, (m, l, l); ``FAR`` to itself.

    By differences, from one point after the other, to need no (m, l, l, p).
    """
    sets, count, _ = points.shape
    between = np.full((sets, count, count), FAR)
    for i in range(count - 1):
        difference = points[:, i + 1 :] - points[:, i : i + 1]
        result = np.einsum("mlp,mlp->ml", difference, difference, dtype=np.int64)
        between[:, i, i + 1 :] = between[:, i + 1 :, i] = result
    return between


def densities(between: Whole, k: int) -> Known:
    """Find neighbours and densities of the points of each set, from their squares (m, l, l).

    Raises
    ------
    ValueError
        If not 1 <= k < l.
    """
    if not 1 <= k < between.shape[1]:
        raise ValueError(f"{between.shape[1]} points have no {k} neighbours each")
    near = _nearest(between, k)
    return Known(near, _density(near, near.square[:, :, -1]))


def local_outlier_factors(known: Known) -> Array:
    """Score each point among the others of its set, as (m, l).

    A score is about 1 inside a cluster and larger outside.
    """
    return _factors(known.near, known.density, known.density)


def novelty_factors(queries: Whole, known: Known) -> Array:
    """Score q points against a set that they are not in, from squares (m, q, l), as (m, q)."""
    near = _nearest(queries, known.near.number.shape[2])
    return _factors(near, known.density, _density(near, known.near.square[:, :, -1]))


def _nearest(between: Whole, k: int) -> Neighbours:
    number = np.argsort(between, axis=2, kind="stable")[:, :, :k]
    return Neighbours(number, np.take_along_axis(between, number, axis=2))


def _density(near: Neighbours, kdist: Whole) -> Array:
    """Compute lrd (m, q), given the squares of kdist (m, l) of the set."""
    reach = np.sqrt(np.maximum(np.maximum(_of(near, kdist), near.square), 1))
    density: Array = reach.shape[2] / in_order(reach)
    return density


def _factors(near: Neighbours, density: Array, own: Array) -> Array:
    """Compare densities (m, l) of the neighbours with one's own (m, q)."""
    around = _of(near, density)
    factors: Array = in_order(around) / around.shape[2] / own
    return factors


def _of(near: Neighbours, values: npt.NDArray[N]) -> npt.NDArray[N]:
    """Pick the neighbours' values out of (m, l), as (m, q, k)."""
    result: npt.NDArray[N] = np.take_along_axis(values[:, None], near.number, axis=2)
    return result
