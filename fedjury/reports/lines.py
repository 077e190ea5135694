"""What a report's pictures show of a run: points of lines. All of it is pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.formatting import figure
from fedjury.protocol.record import RoundRecord

Floats = npt.NDArray[np.float64]

POINTS = 400
"""Points of a line at the most; more rounds are put together."""


class Line(NamedTuple):
    """What is drawn of a run, oldest first: in percent, or a metric's values. NaN is a gap."""

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
    """Rejected rounds, at most one a point: (round, value)."""
    each: int
    """Rounds that a point stands for."""
    share: bool = True
    """Whether the values are percent."""


def line(
    name: str, rounds: Sequence[RoundRecord], *, backdoor: bool = False, metric: str = ""
) -> Line:
    """Take a line out of a run: accuracy or a metric, with crosses, or the backdoor's success.

    The crosses of the latter say what the rejected candidates would have done. Of very many rounds
    neighbours are put together: their mean, lowest and highest.
    """
    numbers = np.array([one.round for one in rounds], float)
    values = _percent([one.model.backdoor if backdoor else one.model.accuracy for one in rounds])
    if metric:
        found = [one.model.metrics.get(metric) for one in rounds]
        values = np.array([np.nan if value is None else value for value in found], float)
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
        [(float(numbers[n]), float(crossed[n])) for n in last.values() if crossed[n] == crossed[n]],
        each,
        share=not metric,
    )


def in_words(drawn: Line) -> str:
    """Say what a line shows, for people who do not see it."""
    known = np.flatnonzero(~np.isnan(drawn.values))
    if not len(known):
        return f"{drawn.name}: no values."
    first, last = known[0], known[-1]
    lowest, highest = np.nanmin(drawn.lowest), np.nanmax(drawn.highest)
    start, end, low, high = (
        f"{value:.1f}%" if drawn.share else figure(float(value))
        for value in (drawn.values[first], drawn.values[last], lowest, highest)
    )
    return (
        f"{drawn.name}: {start} at round {drawn.rounds[first]:.0f}, "
        f"{end} at round {drawn.rounds[last]:.0f}; lowest {low}, highest {high}."
    )


def limits(drawn: Sequence[Line]) -> tuple[float, float]:
    """Return from where to where the axis of lines goes: of shares over all, else by the values."""
    if all(one.share for one in drawn):
        return -2.0, 103.0
    known = np.concatenate(
        [part[~np.isnan(part)] for one in drawn for part in (one.lowest, one.highest)]
    )
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


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
