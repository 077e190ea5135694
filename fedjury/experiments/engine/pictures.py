"""Drawing what all pictures share: rates with intervals, styles that print in black and white."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine.metrics import Rate

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#000000", "marker": "o", "linestyle": "-"},
    {"color": "#b2452e", "marker": "s", "linestyle": "--"},
    {"color": "#2471a3", "marker": "^", "linestyle": "-."},
    {"color": "#777777", "marker": "D", "linestyle": ":"},
    {"color": "#3d8b40", "marker": "v", "linestyle": "-"},
    {"color": "#8e5ea2", "marker": "x", "linestyle": "--"},
)
"""Lines that differ in shape as well as in colour."""

HATCHES = ("", "///", "...", "xxx")

APART = 0.06
"""Distance of points that belong to the same place, as a share of the distance of places."""


def style(names: Sequence[str], name: str) -> dict[str, Any]:
    """Return the style of one of several lines."""
    return STYLES[names.index(name) % len(STYLES)]


def rates(
    axes: Axes,
    lines: Mapping[str, Mapping[float, Rate]],
    effect: float | None,
    gap: float = 1.0,
    *,
    joined: bool = True,
) -> None:
    """Draw lines of rates by x, each point with its interval; ``gap``: between two x.

    ``effect``: the design effect of the false alarms, where it is known.
    ``joined``: x is a number, so that a line between two points means something.
    """
    names = list(lines)
    for number, (name, points) in enumerate(lines.items()):
        shift = (number - (len(names) - 1) / 2) * APART * gap
        known = [
            (x, rate.value, ends)
            for x, rate in sorted(points.items())
            if rate.value is not None and (ends := rate.with_effect(effect).interval)
        ]
        if not known:
            continue
        # Rounding may put a share of 0 or 1 a hair beyond its own interval.
        below = [max(0.0, value - ends[0]) for _, value, ends in known]
        above = [max(0.0, ends[1] - value) for _, value, ends in known]
        axes.errorbar(
            [x + shift for x, _, _ in known],
            [value for _, value, _ in known],
            [below, above],
            label=name,
            capsize=3,
            markersize=5,
            lw=1.2,
            **style(names, name) | ({} if joined else {"linestyle": "none"}),
        )


def cells_below(axes: Axes, places: Iterable[Iterable[object]]) -> None:
    """Write below an axis what is at 0, 1, 2 ...: the labels of each cell, one below the other."""
    names = ["\n".join(map(str, place)) for place in places]
    axes.set_xticks(range(len(names)), names, fontsize=7)


def as_rate(axes: Axes, name: str) -> None:
    """Make the y axis that of a rate."""
    axes.set(ylabel=f"{name} (share)", ylim=(-0.04, 1.04))
    axes.grid(alpha=0.25)


def legend(figure: Figure) -> None:
    """Show the names of all lines once each, below the panels."""
    once = {
        name: handle
        for axes in figure.axes
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        once.values(),
        once.keys(),
        loc="outside lower center",
        ncols=min(6, len(once)),
        fontsize=9,
        frameon=False,
    )


def errors(
    figure: Figure,
    lines: Sequence[Mapping[str, Mapping[float, Rate]]],
    effect: float | None,
    label: str,
) -> None:
    """Draw FN beside FP, a line for each name, against what ``label`` says."""
    axes = figure.subplots(1, 2, sharey=True)
    for panel, line, name in zip(axes, lines, ("FN", "FP"), strict=True):
        rates(panel, line, effect)
        as_rate(panel, name)
        panel.set_xlabel(label)
    legend(figure)
