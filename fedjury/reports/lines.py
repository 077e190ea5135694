"""What a report's pictures show of a run: points of lines. All of it is pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.protocol.record import RoundRecord

Floats = npt.NDArray[np.float64]

POINTS = 400
"""Points of a line at the most; more rounds are put together."""


class Line(NamedTuple):
    """What is drawn of a run, in percent, oldest first. NaN is a gap."""

    name: str
    rounds: Floats
    """(k,)"""
    values: Floats
    """(k,)"""
    lowest: Floats
    """(k,)"""
    highest: Floats
    """(k,)"""
    crosses: list[tuple[float, float]]
    """Rejected rounds, at most one a point: (round, percent)."""
    each: int
    """Rounds that a point stands for."""


def line(name: str, rounds: Sequence[RoundRecord], *, backdoor: bool = False) -> Line:
    """Take a line out of a run: accuracy, with crosses on it, or the backdoor's success.

    The crosses of the latter say what the rejected candidates would have done. Of very many rounds
    neighbours are put together: their mean, lowest and highest.
    """
    numbers = np.array([one.round for one in rounds], float)
    values = _percent([one.model.backdoor if backdoor else one.model.accuracy for one in rounds])
    crossed = (
        _percent([one.candidate.backdoor if one.candidate else None for one in rounds])
        if backdoor
        else values
    )
    each = max(1, -(-len(rounds) // POINTS))
    bins = [slice(at, at + each) for at in range(0, len(rounds), each)]
    last = {n // each: n for n, one in enumerate(rounds) if one.accepted is False}
    return Line(
        name,
        _of(np.mean, numbers, bins),
        _of(np.mean, values, bins),
        _of(np.min, values, bins),
        _of(np.max, values, bins),
        [(float(numbers[n]), float(crossed[n])) for n in last.values() if crossed[n] >= 0],
        each,
    )


def in_words(drawn: Line) -> str:
    """Say what a line shows, for people who do not see it."""
    known = np.flatnonzero(~np.isnan(drawn.values))
    if not len(known):
        return f"{drawn.name}: no values."
    first, last = known[0], known[-1]
    return (
        f"{drawn.name}: {drawn.values[first]:.1f}% at round {drawn.rounds[first]:.0f}, "
        f"{drawn.values[last]:.1f}% at round {drawn.rounds[last]:.0f}; "
        f"lowest {np.nanmin(drawn.lowest):.1f}%, highest {np.nanmax(drawn.highest):.1f}%."
    )


def apart(heights: Sequence[float], least: float) -> list[float]:
    """Move heights as little as need be for neighbours to be ``least`` apart, in their order."""
    order = sorted(range(len(heights)), key=lambda n: (heights[n], n))
    groups: list[list[int]] = []  # those who touch share a middle

    def middle(group: list[int]) -> float:
        return sum(heights[n] for n in group) / len(group)

    for n in order:
        groups.append([n])
        while len(groups) > 1:
            below, above = groups[-2], groups[-1]
            if middle(above) - middle(below) >= least * (len(below) + len(above)) / 2:
                break
            groups[-2:] = [below + above]
    moved = [0.0] * len(heights)
    for group in groups:
        for place, n in enumerate(group):
            moved[n] = middle(group) + least * (place - (len(group) - 1) / 2)
    return moved


def _percent(shares: Sequence[float | None]) -> Floats:
    return np.array([np.nan if share is None else 100 * share for share in shares], float)


def _of(what: Callable[[Floats], object], values: Floats, bins: Sequence[slice]) -> Floats:
    """Apply ``what`` to the numbers in each bin; NaN where there are none."""
    known = [values[part][~np.isnan(values[part])] for part in bins]
    return np.array([what(part) if len(part) else np.nan for part in known], float)
