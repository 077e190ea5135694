"""Setting what was to be reached beside what was seen."""

from __future__ import annotations

from fedjury.experiments.engine.metrics import Mean, Rate
from fedjury.experiments.engine.tables import Row, shown


def target(
    what: str, seen: Rate | Mean, most: float | None = None, least: float | None = None
) -> Row:
    """Make a row of a table of targets; without a limit, a figure is only reported."""
    value, reached = seen.value, ""
    if value is not None and (most is not None or least is not None):
        met = (most is None or value <= most) and (least is None or value >= least)
        reached = "reached" if met else "missed"
    points = isinstance(seen, Mean) and seen.unit == "points"
    limits = [
        f"{sign} {_limit(limit, points=points)}"
        for sign, limit in (("≤", most), ("≥", least))
        if limit is not None
    ]
    return {
        "figure": what,
        "target": " and ".join(limits) or "as it is",
        "seen": shown(seen),
        "outcome": reached,
    }


def _limit(limit: float, *, points: bool) -> str:
    return f"{100 * limit:g} points" if points else f"{limit:.3g}"
