"""The report's pictures: a PNG, and the same as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedjury.reports.lines import Line, apart, in_words
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

APART = 6.0
"""Percent between two names at the ends of lines."""

WIDE, NARROW = (10.0, 4.4), (5.0, 4.4)
"""Inches of pictures for screens and for telephones."""


def png(file: Path, title: str, lines: Sequence[Line], attack_rounds: AttackRounds | None) -> None:
    """Draw accuracy by round: a dot where a round was accepted, a cross where it was rejected."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(9, 5.2), layout="constrained")
    _lines(axes, lines, COLOURS)
    if attack_rounds is not None:
        axes.axvline(attack_rounds.first - 0.5, color="grey", ls="--", lw=1)
        axes.annotate("fakes strike", (attack_rounds.first - 0.4, 101), color="grey", fontsize=9)
    axes.scatter([], [], color="grey", marker="x", label="rejected round (old model kept)")
    axes.set(xlabel="round", ylabel="accuracy on held-out data (%)", ylim=(0, 105), title=title)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def svg(
    prefix: str,
    what: str,
    lines: Sequence[Line],
    attack_rounds: AttackRounds | None,
    *,
    narrow: bool,
) -> str:
    """Draw lines as an ``<svg>`` for a page; ``what``: the quantity, for the axis."""
    plt = _pyplot()
    from fedjury.reports.svg import inline  # noqa: PLC0415 - imports matplotlib

    named = len(lines) > 1 and not narrow
    size, type_ = (NARROW, 11) if narrow else (WIDE, 10)
    inks = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT)
    inks |= dict.fromkeys(("text.color", "xtick.labelcolor", "ytick.labelcolor"), INK)
    with plt.rc_context({"font.size": type_, "text.parse_math": False, **inks}):
        figure, axes = plt.subplots(figsize=size)
        figure.subplots_adjust(
            left=0.45 / size[0], right=0.8 if named else 1 - 0.12 / size[0], bottom=0.115, top=0.92
        )
        _attack_rounds(axes, attack_rounds, named=not narrow)
        _lines(axes, lines, COLOURS)
        if named:
            _names(axes, lines)
        ends = [number for drawn in lines if len(drawn.rounds) for number in drawn.rounds[[0, -1]]]
        axes.set(ylim=(-2, 103), xlim=(min(ends) - 0.6, max(ends) + 0.6))
        axes.set_xlabel("round", color=INK)
        axes.set_title(f"{what} (%)", loc="left", fontsize=type_, color=INK)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(axis="y", color=FAINT, alpha=0.5, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        alt = " ".join([f"{what} by round.", *map(in_words, lines)])
        result = inline(figure, prefix, PALETTE, alt)
        plt.close(figure)
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
    ends = [drawn.values[drawn.values >= 0] for drawn in lines]
    last = [float(end[-1]) if len(end) else 0.0 for end in ends]
    for n, (drawn, height) in enumerate(zip(lines, apart(last, APART), strict=True)):
        axes.annotate(
            f"{drawn.name} {last[n]:.0f}%" if len(ends[n]) else drawn.name,
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            color=COLOURS[n % len(COLOURS)],
            annotation_clip=False,
        )
