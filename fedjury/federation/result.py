"""What a run came to: its report in its folder, and its figures for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fedjury import reports
from fedjury.aggregator.durable_files import explained

SHOWN = {
    "run",
    "before",
    "final",
    "lost",
    "let in",
    "caught",
    "rejected",
    "updates/s",
}
"""The report's columns that fit a terminal."""


METRICS = 2
"""Metrics of each run that fit, too."""

FILES = {
    "report": "report.html",
    "table": "report.md",
    "picture": "accuracy.png",
    "rounds": "rounds.jsonl",
}
"""What people find in the folder."""


class Result(NamedTuple):
    """What a run came to, or of a demo its four."""

    folder: Path
    code: int = 0
    """The exit code of its aggregator; if that failed, there is no report."""
    report: reports.ReportData | None = None
    rows: Sequence[reports.Row] = ()

    def show(self) -> None:
        """Print the report's table, and where the rest is."""
        if self.report is None:
            return
        table = Table(
            title=self.report.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False
        )
        fits = SHOWN.union(*([*row.metrics][:METRICS] for row in self.rows))
        shown = [heading for heading in reports.headings(self.rows) if heading in fits]
        for heading in shown:
            left = heading == "run"
            table.add_column(heading, justify="left" if left else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*reports.cells(row, shown))
        Console().print("", table)
        for note in self.report.notes[1:]:  # the first says what was run
            print(note)
        for what, file in FILES.items():
            print(f"{what:8} {self.folder / file}", flush=True)

    def figures(self) -> dict[str, object]:
        """Return it for programs."""
        rows = [
            row._asdict()
            | {"kept": row.kept, "updates_per_second": row.rate}
            | {"metrics": {name: found._asdict() for name, found in row.metrics.items()}}
            for row in self.rows
        ]
        return {
            "folder": str(self.folder),
            "title": self.report.title if self.report else "",
            "runs": rows,
            "notes": self.report.notes if self.report else [],
        }


def finish(folder: Path, report: reports.ReportData) -> Result:
    """Write the report and return it with its table."""
    with explained(folder / reports.FILES):
        return Result(folder, 0, report, reports.write(folder, report))
