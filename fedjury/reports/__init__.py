"""What a run came to: a page, a table and a picture, made from ``rounds.jsonl`` alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fedjury.reports.conclusion import conclusion
from fedjury.reports.lines import line
from fedjury.reports.page import BACKDOOR, page, panels, reached
from fedjury.reports.picture import Panel, png
from fedjury.reports.rounds import text
from fedjury.reports.statistics import Row, cells, headings, row
from fedjury.reports.summary import Records, ReportData, figures_of, of_experiment, of_run

__all__ = [
    "FILES",
    "Records",
    "ReportData",
    "Row",
    "cells",
    "conclusion",
    "headings",
    "markdown",
    "of_experiment",
    "of_run",
    "row",
    "write",
]

FILES = "report.html, report.md or accuracy.png"
"""What is written, for people whose disk refuses."""

LEGENDS = {
    "before": "`before`: accuracy on held-out data in the last round before the attack, if known. "
    "`kept`: final over before.",
    "backdoor": "`backdoor`: share of its test samples on which the final model does what the "
    "attackers want; `let in`: the largest of any model that was accepted.",
    "caught": "`caught`: rejected candidates of attacked rounds.",
    "lost": "`lost`: points of accuracy from the best model accepted to the last.",
    "epsilon": "`epsilon`: spent by all noisy candidates, rejected ones too.",
    "seconds": "`seconds`: of the rounds, without start-up.",
}
"""Heading of the table -> what it means."""

NAMED = "Other names: metrics of the last model; of agents, weighted by their samples."
"""What there is to say of metrics."""


def markdown(title: str, rows: list[Row], notes: list[str]) -> str:
    """Write the report as Markdown."""
    heads = headings(rows)
    written = [cells(figures, heads) for figures in rows]
    named = [text(heading).replace("|", r"\|") for heading in heads]
    table = [named, ("---", *["---:"] * (len(heads) - 1)), *written]
    lines = [f"# {title}", "", *notes, "", *("| " + " | ".join(line) + " |" for line in table)]
    lines += [
        "",
        legend(rows, heads),
        "",
        "![What was measured, by round](accuracy.png)",
        "",
    ]
    return "\n".join(lines)


def legend(rows: list[Row], heads: Collection[str]) -> str:
    """Say what stands below a table's headings."""
    said = [meaning for heading, meaning in LEGENDS.items() if heading in heads]
    return " ".join([*said, *([NAMED] if any(one.metrics for one in rows) else [])])


def write(folder: Path, report: ReportData) -> list[Row]:
    """Write ``report.html``, ``report.md`` and ``accuracy.png``; return the table's rows."""
    runs = {run.name: run.records for run in report.cases}
    rows = [figures_of(report, run) for run in report.cases]
    content = {"report.md": markdown(report.title, rows, report.notes), "report.html": page(report)}
    for file, written in content.items():  # a path among the settings may have strange letters
        (folder / file).write_text(written, encoding="utf-8", errors="replace")
    shown = [one for one in panels(runs) if one.what != BACKDOOR]
    if not shown:  # an empty picture says so, too
        shown = [Panel("Accuracy (not measured)", [line(*run) for run in runs.items()])]
    png(folder / "accuracy.png", report.title, shown, reached(report.attack_rounds, runs))
    return rows
