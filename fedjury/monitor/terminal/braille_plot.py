"""Curves in a terminal, in braille, where a character holds two by four dots. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.text import Text

ACROSS, DOWN = 2, 4
"""Dots of a character."""

BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The dots of a braille character, row by row."""

BRAILLE = 0x2800


class Line(NamedTuple):
    """A curve: points (x, share from 0 to 1 or None where there is a gap), and how it looks."""

    points: Sequence[tuple[float, float | None]]
    style: str
    dotted: bool = False
    mark: str = "*"
    """What it is drawn with where there is no braille."""


def draw(lines: Iterable[Line], width: int, height: int, *, plain: bool) -> list[Text]:
    """Draw curves into so many characters, later ones over earlier ones; ``plain``: in ASCII."""
    lines = list(lines)
    across, down = (1, 1) if plain else (ACROSS, DOWN)
    span = _span(lines)
    cells: dict[tuple[int, int], tuple[int, Line]] = {}
    for line in lines:
        for x, y in _dots(line, span, width * across, height * down):
            column, row = x // across, y // down
            bits = cells.get((column, row), (0, line))[0] | BITS[y % down][x % across]
            cells[column, row] = bits, line
    return [_row(cells, row, width, plain=plain) for row in range(height)]


def _row(
    cells: dict[tuple[int, int], tuple[int, Line]], row: int, width: int, *, plain: bool
) -> Text:
    text = Text(no_wrap=True)
    for column in range(width):
        bits, line = cells.get((column, row), (0, None))
        if line is None:
            text.append(" ")
        else:
            text.append(line.mark if plain else chr(BRAILLE + bits), style=line.style)
    return text


def _span(lines: Iterable[Line]) -> tuple[float, float]:
    """Return the first and the last x."""
    every = [x for line in lines for x, _ in line.points]
    return (min(every), max(every)) if every else (0.0, 0.0)


def _dots(
    line: Line, span: tuple[float, float], width: int, height: int
) -> Iterable[tuple[int, int]]:
    """Yield the dots of a curve, from the upper left corner; each point is tied to the last."""
    first, last = span
    before: tuple[int, int] | None = None
    for x, share in line.points:
        if share is None:
            before = None
            continue
        here = (
            round((x - first) / (last - first) * (width - 1)) if last > first else 0,
            round((1 - min(max(share, 0.0), 1.0)) * (height - 1)),
        )
        for dot in _between(before or here, here):
            if not line.dotted or dot[0] % 3 == 0:
                yield dot
        before = here


def _between(start: tuple[int, int], end: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """Yield the dots of a straight line, both ends included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    for step in range(steps + 1):
        part = step / steps if steps else 0.0
        yield (
            round(start[0] + (end[0] - start[0]) * part),
            round(start[1] + (end[1] - start[1]) * part),
        )
