"""What a benchmark measures, and the table it makes."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tools" / "benchmarks" / "results"

HEADINGS = ("figure", "min", "median", "max", "unit", "target", "met")


class Figure(NamedTuple):
    """One line of the table: what was measured, several times over, and what it should be."""

    name: str
    values: Sequence[float]
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None

    @property
    def middle(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def target(self) -> str:
        """The target, in words."""
        if self.at_least is not None:
            return f">= {_short(self.at_least)}"
        return "" if self.at_most is None else f"<= {_short(self.at_most)}"

    @property
    def met(self) -> str:
        """Whether the median meets the target."""
        if not self.target:
            return ""
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        return "yes" if least <= self.middle <= most else "NO"

    def cells(self) -> list[str]:
        """Write the line of the table."""
        spread = [min(self.values), self.middle, max(self.values)]
        return [self.name, *map(_short, spread), self.unit, self.target, self.met]


def ratios(
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    at_least: float | None = None,
    at_most: float | None = None,
) -> Figure:
    """Make the figure of ratios, run by run: noise that lasts for a run falls out."""
    values = [a / b for a, b in zip(over, under, strict=True)]
    return Figure(name, values, at_least=at_least, at_most=at_most)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(ways: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """Measure several ways one after the other, again and again: noise meets all of them."""
    result: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, measured in ways.items():
            result[way].append(measured())
    return result


def publish(name: str, figures: Sequence[Figure]) -> None:
    """Print the table and write it down, as Markdown and as JSON."""
    table = Table(*HEADINGS)
    for figure in figures:
        table.add_row(*figure.cells())
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = [f"| {' | '.join(HEADINGS)} |", "|---|---:|---:|---:|---|---:|---|"]
    lines += [f"| {' | '.join(figure.cells())} |" for figure in figures]
    text = f"{time.strftime('%Y-%m-%d')}, {machine}\n\n" + "\n".join(lines) + "\n"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    content = {"machine": machine, "figures": [figure._asdict() for figure in figures]}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
