"""The report's pictures: a PNG, and the same as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fedjury.formatting import figure
from fedjury.reports.lines import Line, apart, in_words, limits
from fedjury.reports.statistics import AttackRounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98", "#b9770e")
"""Of the lines, one after the other."""

DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.2), (1.2, 1.2), (5, 1.2, 1.2, 1.2), (8, 2.5))
"""In widths of the line, so that colour is not the only sign; the first is solid."""

INK, FAINT = "#010203", "#040506"
"""What stands in a picture for the page's colours of text, and of lines in the background."""

PALETTE = {colour: f"var(--line-{n})" for n, colour in enumerate(COLOURS)} | {
    INK: "currentColor",
    FAINT: "var(--faint)",
}

MARKED = 60
"""Points of a line that get a dot each."""

FEW = 5
"""Points that are dots rather than a line."""

STRIKES = 40
"""Single rounds of strikes that are marked."""

APART = 0.06
"""Of an axis between two names at the ends of lines."""

TALL, LOW = 5.2, 3.0
"""Inches of the first panel of the PNG, and of each further one."""


class Panel(NamedTuple):
    """A quantity by round, of all runs."""

    what: str
    lines: Sequence[Line]

    @property
    def label(self) -> str:
        """What stands at its axis."""
        share = all(one.share for one in self.lines)
        return f"{self.what} (%)" if share else self.what


WIDE, NARROW = (10.0, 4.4), (5.0, 4.4)
"""Inches of pictures for screens and for telephones."""


def png(
    file: Path, title: str, panels: Sequence[Panel], attack_rounds: AttackRounds | None
) -> None:
    """Draw what was measured by round, a panel each; a cross is a rejected round."""
    plt = _pyplot()
    with plt.rc_context({"text.parse_math": False}):
        height = TALL + LOW * (len(panels) - 1)
        drawing, every = plt.subplots(
            len(panels), figsize=(9, height), layout="constrained", squeeze=False, sharex=True
        )
        for axes, panel in zip(every.flat, panels, strict=True):
            _lines(axes, panel.lines, COLOURS)
            axes.set(ylabel=panel.label, ylim=limits(panel.lines))
            axes.grid(alpha=0.25)
            if attack_rounds is not None:
                axes.axvline(attack_rounds.first - 0.5, color="grey", ls="--", lw=1)
        first, last = every.flat[0], every.flat[-1]
        if attack_rounds is not None:
            at = (attack_rounds.first - 0.4, 0.96)
            place = ("data", "axes fraction")
            first.annotate("fakes strike", at, xycoords=place, color="grey", fontsize=9)
        first.set_title(title)
        first.scatter([], [], color="grey", marker="x", label="rejected round (old model kept)")
        last.set_xlabel("round")
        handles, labels = first.get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        drawing.savefig(file, dpi=130)
        plt.close(drawing)


def svg(prefix: str, panel: Panel, attack_rounds: AttackRounds | None, *, narrow: bool) -> str:
    """Draw a panel as an ``<svg>`` for a page."""
    plt, lines = _pyplot(), panel.lines
    from fedjury.reports.svg import inline  # noqa: PLC0415 - imports matplotlib

    named = len(lines) > 1 and not narrow
    size, type_ = (NARROW, 11) if narrow else (WIDE, 10)
    inks = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT)
    inks |= dict.fromkeys(("text.color", "xtick.labelcolor", "ytick.labelcolor"), INK)
    with plt.rc_context({"font.size": type_, "text.parse_math": False, **inks}):
        drawing, axes = plt.subplots(figsize=size)
        drawing.subplots_adjust(
            left=0.45 / size[0], right=0.8 if named else 1 - 0.12 / size[0], bottom=0.115, top=0.92
        )
        _attack_rounds(axes, attack_rounds, named=not narrow)
        _lines(axes, lines, COLOURS)
        if named:
            _names(axes, lines)
        ends = [number for drawn in lines if len(drawn.rounds) for number in drawn.rounds[[0, -1]]]
        axes.set(ylim=limits(lines), xlim=(min(ends) - 0.6, max(ends) + 0.6))
        axes.set_xlabel("round", color=INK)
        axes.set_title(panel.label, loc="left", fontsize=type_, color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(axis="y", color=FAINT, alpha=0.5, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        alt = " ".join([f"{panel.what} by round.", *map(in_words, lines)])
        result = inline(drawing, prefix, PALETTE, alt)
        plt.close(drawing)
    return result


def _pyplot() -> Any:
    """Import matplotlib's, for files alone."""
    import matplotlib as mpl  # noqa: PLC0415 - a second of start-up that only a report pays

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _lines(axes: Axes, lines: Sequence[Line], colours: Sequence[str]) -> None:
    """Draw the lines, each with a band where it stands for more, its dots and its crosses."""
    for n, drawn in enumerate(lines):
        colour, dashes = colours[n % len(colours)], DASHES[n % len(DASHES)]
        # The first lines are the widest, so that later ones on top of them do not hide them.
        width = (3.2, 2.4, 2.0)[min(n, 2)] if len(lines) > 1 else 2.0
        dotted = len(drawn.rounds) <= MARKED
        dot = width + (1.5 if len(drawn.rounds) > FEW else 4.0)
        axes.plot(
            drawn.rounds,
            drawn.values,
            color=colour,
            lw=width,
            label=drawn.name,
            ls=(0, dashes) if dashes else "-",
            marker="o" if dotted else None,
            ms=dot,
            markeredgewidth=0,
            solid_capstyle="round",
        )
        if drawn.each > 1:
            axes.fill_between(
                drawn.rounds, drawn.lowest, drawn.highest, color=colour, alpha=0.2, lw=0
            )
        if drawn.crosses:
            xs, ys = zip(*drawn.crosses, strict=True)
            size, thick = (60, 1.8) if dotted else (16, 1.0)
            axes.scatter(xs, ys, s=size, color=colour, marker="x", lw=thick, zorder=3)


def _attack_rounds(axes: Axes, attack_rounds: AttackRounds | None, *, named: bool) -> None:
    """Mark when the malicious agents strike, and name it where there is room."""
    if attack_rounds is None:
        return
    for number in attack_rounds.rounds[:STRIKES] or (attack_rounds.first - 0.5,):
        axes.axvline(number, color=INK, ls=(0, (4, 3)), lw=0.9, alpha=0.7)
    if not named:
        return
    axes.annotate(
        "strikes" if len(attack_rounds.rounds) > 1 else "first strike",
        (attack_rounds.first, 1.01),
        xycoords=("data", "axes fraction"),
        ha="center",
        color=INK,
    )


def _names(axes: Axes, lines: Sequence[Line]) -> None:
    """Write the lines' names at their ends, where there is room."""
    low, high = limits(lines)
    ends = [drawn.values[~np.isnan(drawn.values)] for drawn in lines]
    last = [float(end[-1]) if len(end) else max(low, 0.0) for end in ends]
    for n, (drawn, height) in enumerate(zip(lines, apart(last, APART * (high - low)), strict=True)):
        value = f"{last[n]:.0f}%" if drawn.share else figure(last[n])
        axes.annotate(
            f"{drawn.name} {value}" if len(ends[n]) else drawn.name,
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            color=COLOURS[n % len(COLOURS)],
            annotation_clip=False,
        )
