"""Tables of results, as CSV with every number and as Markdown for people; and of targets."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate

Value = str | int | float | Rate | Mean | Count | None
Row = Mapping[str, Value]


class Table(NamedTuple):
    """Rows that all have the same columns. The first table of an experiment has no name."""

    name: str
    title: str
    rows: Sequence[Row]

    def with_effect(self, effect: float | None) -> Table:
        """Return the same, its intervals with a design effect; None: it is not known."""
        rows = [
            {k: v.with_effect(effect) if isinstance(v, Rate) else v for k, v in row.items()}
            for row in self.rows
        ]
        return self._replace(rows=rows)

    @property
    def has_rates(self) -> bool:
        """Whether it shows a share with its interval."""
        return any(isinstance(value, Rate) for row in self.rows for value in row.values())


def write_csv(file: Path, table: Table) -> None:
    """Write a table; a rate or a mean takes several columns."""
    rows = [_plain(row) for row in table.rows]
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def _plain(row: Row) -> dict[str, str | int | float | None]:
    """Spread rates and means over columns."""
    cases: dict[str, str | int | float | None] = {}
    for name, value in row.items():
        if isinstance(value, Rate):
            low, high = value.interval or (None, None)
            cases |= {
                name: value.value,
                f"{name} low": low,
                f"{name} high": high,
                f"{name} count": value.hits,
                f"{name} of": value.of,
            } | _spread(name, value.each)
        elif isinstance(value, Count):
            cases |= {f"{name} count": value.hits, f"{name} of": value.of}
        elif isinstance(value, Mean):
            cases |= {name: value.value} | _spread(name, value.values)
        else:
            cases[name] = value
    return cases


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f"{name} least run": min(values, default=None),
        f"{name} most run": max(values, default=None),
    }


def markdown(table: Table) -> str:
    """Write a table as Markdown, under its title."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    lines = [columns, ["---" if _texts(table, name) else "---:" for name in columns]]
    lines += [[shown(row.get(name)) for name in columns] for row in table.rows]
    return "\n".join([f"**{table.title}**", "", *("| " + " | ".join(c) + " |" for c in lines)])


def _texts(table: Table, column: str) -> bool:
    return all(isinstance(row.get(column), str | None) for row in table.rows)


def shown(value: Value) -> str:
    """Write a value for people: a rate with its interval, a mean with the range of the runs."""
    match value:
        case None:
            return ""
        case Rate():
            if value.value is None or value.interval is None:
                return ""
            low, high = value.interval
            return f"{value.value:.3f} [{low:.3f}, {high:.3f}]"
        case Mean():
            return _mean(value)
        case Count():
            return f"{value.hits} of {value.of}"
        case float():
            return _short(value)
    return str(value)


def _mean(mean: Mean) -> str:
    if mean.value is None:
        return ""
    if mean.unit in ("%", "points"):
        sign = "+" if mean.unit == "points" else ""
        texts = [f"{100 * x:{sign}.1f}" for x in (mean.value, min(mean.values), max(mean.values))]
        unit = " %" if mean.unit == "%" else ""
    else:
        texts = [_short(x) for x in (mean.value, min(mean.values), max(mean.values))]
        unit = f" {mean.unit}" if mean.unit else ""
    return f"{texts[0]}{unit}" + (f" ({texts[1]} to {texts[2]})" if len(mean.values) > 1 else "")


def _short(value: float) -> str:
    """Write three digits that count, and all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# ---------------------------------------------------------------- what was to be reached


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
        "seen": seen,
        "outcome": reached,
    }


def _limit(limit: float, *, points: bool) -> str:
    return f"{100 * limit:g} points" if points else f"{limit:.3g}"
