"""Sketches: who may be near whom, found in a few numbers of each update instead of all of them.

A random matrix of signs (d, k), divided by √k, keeps the length of any one vector but for a factor
near 1 (Johnson, Lindenstrauss 1984; with signs: Achlioptas, JCSS 2003). So the distances between
the sketches of unit vectors bound the angles between updates, and costly arithmetic is left for
those few who may be flagged. With k = 64 a squared length is more than fourfold with probability
exp(-32 (3 - ln 4)) = 4e-23, and less than a sixteenth with 1e-16 at the most: among a thousand
agents' half a million pairs no bound ever fails.

That holds for vectors that do not know the signs: who knows them can hide a likeness between two
updates where the signs amplify it. A run's seed is known to all who take part in it. So the signs
are drawn from what all have sent in this very round, which nobody knows who sends an update.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedjury.detection.angles import (
    SENDERS,
    Bounds,
    beside_median,
    beside_usual,
    nearest_sines,
    sines,
)
from fedjury.detection.rows import BLOCK, Floats, Ints
from fedjury.learning.weights import Matrix
from fedjury.randomness import Purpose, stream_of_bytes

SIZE = 64
"""k: numbers in a sketch."""

LEAST, MOST = 0.25, 2.0
"""A sketch's length over its vector's is within that."""

NOISE = 1e-4
"""What float32 may add to or take from a distance between sketches of unit vectors: a hundred
times of what it does to 25,450 parameters."""

FEW = 64
"""So many are compared with all others directly: that costs no more."""

SAFE = (1e-12, 1e12)
"""Lengths of rows that float32 multiplies as they are."""


def beside_nearest(
    rows: Matrix, squares: Floats, among: Ints, agent: Ints, neighbour: int, limit: float
) -> Floats:
    """Return the sine between each and its nearest neighbours, beside the median of these, (m,).

    What is within ``limit``, and nothing else, is exact and is within it; see ``beside_usual``.

    ``rows``: (N, d). ``squares``: their squared lengths (N,). ``among``: which rows are compared
    (n,), ascending, finite and none zero. ``agent``: which of these are looked at (m,).
    ``neighbour``: which one, 1 the nearest.
    """
    if min(len(agent), rows.shape[1]) <= FEW:
        return beside_median(nearest_sines(_these(rows, among), agent, neighbour))
    units = sketches(rows, squares)[among]
    reach = _nearest(units, agent, neighbour)

    def exact(which: Ints) -> Floats:
        if len(which) == len(agent):
            return nearest_sines(_these(rows, among), agent, neighbour)
        # Whoever may be as near as the nearest neighbours are at the most.
        most = MOST * (reach[which] + NOISE) / LEAST + NOISE
        around = np.zeros(len(among), dtype=np.bool_)
        for block, distances in _distances(units, agent[which]):
            around |= (distances <= most[block][:, np.newaxis]).any(axis=0)
        around[agent[which]] = True
        place = np.cumsum(around) - 1
        return nearest_sines(rows[among[around]], place[agent[which]], neighbour)

    bounds = Bounds(
        sines(((reach - NOISE).clip(0) / MOST) ** 2),
        sines(reach**2),
        sines(((reach + NOISE) / LEAST) ** 2),
    )
    return beside_usual(bounds, limit, exact)


def sketches(rows: Matrix, squares: Floats) -> Floats:
    """Return the sketches (N, k) of the rows of (N, d) made unit vectors; any, where they cannot.

    ``squares``: their squared lengths (N,).
    """
    signs = _stream(squares)
    with np.errstate(all="ignore"):
        lengths = np.sqrt(squares)[:, np.newaxis]
        odd = np.flatnonzero((lengths < SAFE[0]) | (lengths > SAFE[1]))
        result, apart = np.zeros((len(rows), SIZE)), np.zeros((len(odd), SIZE))
        width = BLOCK // SIZE
        for start in range(0, rows.shape[1], width):
            part = rows[:, start : start + width]
            values = _signs(signs, part.shape[1])
            result += part @ values
            if len(odd):
                apart += (part[odd] / lengths[odd]) @ values
        result /= lengths
        result[odd] = apart
    result /= np.sqrt(SIZE)
    return result


def _stream(squares: Floats) -> np.random.Generator:
    """Return the stream of a round's signs, drawn from what was sent, in whatever order."""
    return stream_of_bytes(np.sort(squares).tobytes(), Purpose.SKETCH)


def _signs(rng: np.random.Generator, d: int) -> Matrix:
    """Draw signs (d, k)."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(d * SIZE // 8), np.uint8))
    signs = bits.astype(np.float32).reshape(d, SIZE)
    signs *= 2
    signs -= 1
    return signs


def _nearest(units: Floats, agent: Ints, neighbour: int) -> Floats:
    """Return the distance of each sketch of ``agent`` (m,) to its nearest neighbours', (m,)."""
    if len(units) <= neighbour:
        return np.full(len(agent), 2.0)
    result = np.empty(len(agent))
    for block, distances in _distances(units, agent):
        result[block] = np.partition(distances, neighbour - 1, axis=1)[:, neighbour - 1]
    return result


def _distances(units: Floats, agent: Ints) -> Iterator[tuple[slice, Floats]]:
    """Yield block after block of ``agent``, and its sketches' distances to all others', (b, n)."""
    squares = np.einsum("nk,nk->n", units, units)
    for start in range(0, len(agent), SENDERS):
        values = agent[start : start + SENDERS]
        result = units[values] @ units.T
        result *= -2
        result += squares
        result += squares[values][:, np.newaxis]
        np.sqrt(result.clip(0, out=result), out=result)
        result[np.arange(len(values)), values] = np.inf
        yield slice(start, start + len(values)), result


def _these(rows: Matrix, which: Ints) -> Matrix:
    """Return these rows, without a copy where they are all."""
    return rows if len(which) == len(rows) else rows[which]
