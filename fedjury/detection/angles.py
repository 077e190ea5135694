"""Angles between updates, and what makes an angle suspicious.

How parallel honest updates are depends on the data: agents of one class each come to a cosine of
.999. So no angle is suspicious by itself, only one that is small beside what is usual: beside the
median, which is an honest agent's as long as most agents are honest. Sines, because a cosine near
1 tells no angles apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjury.detection.rows import BLOCK, Floats, Ints
from fedjury.learning.weights import Matrix

SENDERS = 1024
"""Rows that are compared with all others at a time: never (n, n) for many agents."""

ROUNDING = 1e-6
"""Sines below that are none: float32 rounds, and 1 - cos² loses half of float64's digits."""


ERROR = 1e-4
"""Of float32's sums of squares and products at the most, relative to the squared lengths; a
thousand times of what it comes to with 25,450 parameters."""

SAFE = (1e-25, 1e30)
"""Squared lengths that float32 can say."""

WIDTH = 1 << 16
"""Parameters that float32 adds up at a time; what comes of these is added in float64."""


class Bounds(NamedTuple):
    """What is known of n values that would cost much to know exactly, each (n,)."""

    low: Floats
    guess: Floats
    """Between the other two."""
    high: Floats


def squared_norms(updates: Matrix) -> Floats:
    """Return ‖g‖² of each row of (n, d), (n,): not finite if the row is not, 0 only for zeros."""
    with np.errstate(invalid="ignore"):
        squares: Floats = np.einsum("nd,nd->n", updates, updates, dtype=np.float64)
    return squares


def about_squared_norms(updates: Matrix) -> Floats:
    """Return the same, but for an error of ``ERROR`` times it; in a third of the time.

    What float32 cannot say is exact: so is whether a row is finite, or zeros.
    """
    squares = np.zeros(len(updates))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, updates.shape[1], WIDTH):
            part = updates[:, start : start + WIDTH]
            squares += np.vecdot(part, part)
    odd = np.flatnonzero(~((squares > SAFE[0]) & (squares < SAFE[1])))
    squares[odd] = squared_norms(updates[odd])
    return squares


def nearest_sines(rows: Matrix, agent: Ints, neighbour: int) -> Floats:
    """Return the sine between each row of ``agent`` (m,) and its nearest neighbours, (m,).

    ``rows``: (n, d), finite and none zero. ``neighbour``: which one, 1 the nearest. 1 stands for
    a right angle and all beyond, and for a neighbour that there is not.
    """
    if len(rows) <= neighbour:
        return np.ones(len(agent))
    result = np.empty(len(agent))
    for start in range(0, len(agent), SENDERS):
        values = agent[start : start + SENDERS]
        squares = _squared_distances(rows, values)
        squares[np.arange(len(values)), values] = np.inf
        nearest = np.partition(squares, neighbour - 1, axis=1)[:, neighbour - 1]
        result[start : start + SENDERS] = sines(nearest)
    return result


def _squared_distances(rows: Matrix, agent: Ints) -> Floats:
    """Return ‖u - v‖² of the rows ``agent`` (m,) and all rows of (n, d), made unit vectors, (m, n).

    Without their mean, which changes no distance: of vectors that have much in common, the products
    would hold little else.
    """
    products, squares = np.zeros((len(agent), len(rows))), np.zeros(len(rows))
    everybody = np.array_equal(agent, np.arange(len(rows)))
    lengths = np.sqrt(squared_norms(rows))[:, np.newaxis]
    width = max(1, 4 * BLOCK // len(rows))
    for start in range(0, rows.shape[1], width):
        part = rows[:, start : start + width] / lengths
        part -= part.mean(axis=0)
        # NumPy sees that the second factor is the first one, and halves the work.
        products += part @ part.T if everybody else part[agent] @ part.T
        squares += np.einsum("nd,nd->n", part, part)
    products *= -2
    products += squares
    products += squares[agent][:, np.newaxis]
    return products


def sines(squares: Floats) -> Floats:
    """Return the sines of the angles between unit vectors at these squared distances (m,).

    1 stands for a right angle and all beyond.
    """
    squares = squares.clip(0, 2)
    result: Floats = np.sqrt(squares * (1 - squares / 4))
    return result


def beside_median(values: Floats) -> Floats:
    """Divide (n,) by their median; ones, so that nobody sticks out, if that is nothing."""
    median = np.median(values) if len(values) else 0.0
    return values / median if median > ROUNDING else np.ones(len(values))


def beside_usual(bounds: Bounds, limit: float, exact: Callable[[Ints], Floats]) -> Floats:
    """Divide n values by their median, (n,), exactly where that decides who is within ``limit``.

    Who is within it and who is not comes out as of ``beside_median`` on exact values. Only those
    who may be within are looked at exactly, and everybody where what is known of the median leaves
    one of these open. The others' quotients are guesses.

    ``exact``: which of the n values (m,) -> these values (m,).
    """
    everybody = np.arange(len(bounds.guess))
    if not len(everybody):
        return bounds.guess
    bottom, top = float(np.median(bounds.low)), float(np.median(bounds.high))
    if bottom <= ROUNDING:
        return beside_median(exact(everybody))
    near = np.flatnonzero(bounds.low <= limit * top)
    values = bounds.guess.copy()
    if len(near):
        values[near] = exact(near)
        if ((values[near] > limit * bottom) & (values[near] <= limit * top)).any():
            return beside_median(exact(everybody))
    return beside_median(values)


def smallness(values: Floats, limit: float) -> Floats:
    """Turn values (n,) of 0 and more into scores: 1 for 0, one half at the limit, then less."""
    return limit / (limit + values)
