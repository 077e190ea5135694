"""The picture of the experiment mpaf: accuracy by fakes on each data set, then by what varies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.metrics import Mean
from fedjury.experiments.papers.mpaf_point import ATTACKS, CENTRAL, NONE, RULES, Seen
from fedjury.experiments.papers.mpaf_tables import WAYS, central, first, numbers, percents, sampled

Line = Mapping[float, Mean]

NAMES = {
    "mpaf": "MPAF",
    "trimmed_mean": "trimmed mean",
    "trimmed_mean, k expected": "trimmed mean, k expected",
    "trimmed_mean, k all": "trimmed mean, k all",
}
"""What a picture calls what settings call otherwise."""

WHOLE = (-3, 103)
"""The y axis from ruin to no error at all, in percent."""


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw a row of panels for each data set, a panel a rule, and one of what varies beside."""
    seen = Seen(results)
    sets = [str(data) for data in seen.values("data")]
    axes = figure.subplots(len(sets) + 1, 3, squeeze=False)
    for row, data in zip(axes, sets, strict=False):
        for panel, rule in zip(row, RULES, strict=True):
            _by_fakes(panel, seen, data, rule)
            panel.set_title(f"{data}: {NAMES.get(rule, rule)}", fontsize=10)
        row[0].set_ylim(WHOLE)
        _alike(row[1:])
    for panel, drawn in zip(axes[-1], (_by_beta, _by_scale, _by_bound), strict=True):
        drawn(panel, seen)
        panel.set_ylim(WHOLE)
    for panel in axes.flat:
        panel.set_ylabel("accuracy (%)")
        panel.grid(alpha=0.25)


def _alike(panels: Sequence[Axes]) -> None:
    """Give panels the same y axis, as narrow as what they show: attacks differ by few points."""
    ends = [end for panel in panels for end in panel.get_ylim()]
    for panel in panels:
        panel.set_ylim(min(ends), max(ends))


def _by_fakes(axes: Axes, seen: Seen, data: str, rule: str) -> None:
    for attack in ATTACKS:
        line = {
            float(percent): seen.accuracy(seen.of(data, rule, attack, percent))
            for percent in percents(seen)
        }
        _plot(axes, line, NAMES.get(attack, attack), ATTACKS.index(attack))
    axes.set_xlabel("fakes (% of the genuine)")
    axes.legend(fontsize=9, loc="lower left" if rule != "mean" else "upper right")


def _by_beta(axes: Axes, seen: Seen) -> None:
    for number, (name, rule, every) in enumerate(WAYS):
        line = {
            beta: seen.accuracy(sampled(seen, rule, "mpaf", beta, all_fakes=every))
            for beta in numbers(seen, "beta")
        }
        _plot(axes, line, NAMES.get(name, name), number)
    _finish(axes, seen, "beta (share of agents called)", "sampled")
    axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0.0, 0.84))


def _by_scale(axes: Axes, seen: Seen) -> None:
    for number, rule in enumerate(RULES):
        line = {
            scale: seen.accuracy(central(seen, rule, "mpaf", scale=scale))
            for scale in numbers(seen, "scale")
        }
        _plot(axes, line, NAMES.get(rule, rule), number)
    axes.set_xscale("log")
    _finish(axes, seen, "lambda", "scaled")
    axes.legend(fontsize=9, loc="center right")


def _by_bound(axes: Axes, seen: Seen) -> None:
    clips = [clip for clip in numbers(seen, "clip") if clip]
    for number, rule in enumerate(RULES):
        for attack in ("mpaf", NONE):
            line = {clip: seen.accuracy(central(seen, rule, attack, clip=clip)) for clip in clips}
            name = NAMES.get(rule, rule) + (", no attack" if attack == NONE else "")
            _plot(axes, line, name, number, hollow=attack == NONE)
    axes.set_xscale("log")
    _finish(axes, seen, "clipping bound M (L2 norm)", "norms clipped")
    axes.legend(fontsize=9, loc="lower left")


def _finish(axes: Axes, seen: Seen, varied: str, how: str) -> None:
    axes.set_xlabel(varied)
    axes.set_title(f"{first(seen)}: MPAF, {CENTRAL} % fakes, {how}", fontsize=10)


def _plot(axes: Axes, line: Line, name: str, number: int, *, hollow: bool = False) -> None:
    """Draw a line of accuracies; bars reach from the lowest to the highest repeat."""
    known = [(x, mean.value, mean.values) for x, mean in line.items() if mean.value is not None]
    values = [100 * value for _, value, _ in known]
    below = [100 * max(0.0, value - min(each)) for _, value, each in known]
    above = [100 * max(0.0, max(each) - value) for _, value, each in known]
    style = pictures.STYLES[number] | ({"markerfacecolor": "white", "lw": 0.8} if hollow else {})
    axes.errorbar(
        [x for x, _, _ in known],
        values,
        [below, above],
        label=name,
        capsize=2,
        markersize=5,
        **{"lw": 1.2} | style,
    )
