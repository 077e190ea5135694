"""What a run came to: a page, a table and a picture, made from ``rounds.jsonl`` alone."""

from __future__ import annotations

from pathlib import Path

from fedjury.reports.conclusion import conclusion
from fedjury.reports.lines import line
from fedjury.reports.page import page, reached
from fedjury.reports.picture import png
from fedjury.reports.statistics import Row, cells, headings, row
from fedjury.reports.summary import Records, ReportData, of_experiment, of_run

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

LEGEND = (
    "`before`: accuracy on held-out data in the last round before the attack, if known. "
    "`kept`: final over before. `backdoor`: share of its test samples on which the final "
    "model does what the attackers want; `at most`: the same after any round. `seconds`: of the "
    "rounds, without start-up."
)


def markdown(title: str, rows: list[Row], notes: list[str]) -> str:
    """Write the report as Markdown."""
    heads = headings(rows)
    written = [cells(figures, heads) for figures in rows]
    table = [heads, ("---", *["---:"] * (len(heads) - 1)), *written]
    lines = [f"# {title}", "", *notes, "", *("| " + " | ".join(line) + " |" for line in table)]
    lines += [
        "",
        LEGEND,
        "",
        "![Accuracy by round](accuracy.png)",
        "",
    ]
    return "\n".join(lines)


def write(folder: Path, report: ReportData) -> list[Row]:
    """Write ``report.html``, ``report.md`` and ``accuracy.png``; return the table's rows."""
    runs = {run.name: run.records for run in report.cases}
    rows = [row(name, rounds, report.attack_rounds) for name, rounds in runs.items()]
    content = {"report.md": markdown(report.title, rows, report.notes), "report.html": page(report)}
    for file, text in content.items():  # a path among the settings may have strange letters
        (folder / file).write_text(text, encoding="utf-8", errors="replace")
    lines = [line(name, rounds) for name, rounds in runs.items()]
    png(folder / "accuracy.png", report.title, lines, reached(report.attack_rounds, runs))
    return rows
