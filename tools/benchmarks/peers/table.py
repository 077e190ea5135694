"""What was measured, as rows, as a table to read, and as files in tools/benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.benchmarks.peers.measuring import Measured

Row = dict[str, Any]


def peer_row(
    name: str, version: str, agents: int, runs: Sequence[Measured], beside: Sequence[Measured]
) -> Row:
    """Make the row of a peer from its runs and those of the plain loop just before and after."""
    rates = [agents / seconds for run in runs for seconds in run.seconds]
    base = statistics.median(agents / seconds for run in beside for seconds in run.seconds)
    return {
        "peer": name,
        "version": version,
        "updates_per_second": {"rounds": rates, **spread(rates)},
        "times_plain": statistics.median(rates) / base,
        "cpu_ms_per_update": 1000 * sum(run.cpu for run in runs) / (agents * len(rates)),
        "memory_mb": max(run.memory for run in runs),
        "processes": max(run.processes for run in runs),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def with_ratios(rules: Sequence[Row]) -> list[Row]:
    """Add each rule's time over ours."""
    ours = {row["rule"]: statistics.median(row["seconds"]) for row in rules if row["by"] == "ours"}
    return [
        {**row, "times_ours": statistics.median(row["seconds"]) / ours[row["rule"]]}
        for row in rules
    ]


def write(peers: Sequence[Row], rules: Sequence[Row]) -> str:
    """Write both tables as text."""
    speeds = [
        [
            row["peer"],
            row["version"],
            *(f"{row['updates_per_second'][k]:,.0f}" for k in SPREAD),
            f"{row['times_plain']:.2f}x",
            f"{row['cpu_ms_per_update']:.1f}",
            f"{row['memory_mb']:,.0f}",
            f"{row['processes']}",
        ]
        for row in peers
    ]
    times = [
        [
            row["rule"],
            row["by"],
            *(f"{1000 * v:,.0f}" for v in spread(row["seconds"]).values()),
            f"{row['times_ours']:.1f}x",
            f"{row['off']:.0e}",
        ]
        for row in rules
    ]
    return "\n".join(
        [
            *grid(
                [
                    "W1, updates a second",
                    "version",
                    *SPREAD,
                    "over the plain loop",
                    "CPU-ms an update",
                    "memory, MB",
                    "processes",
                ],
                speeds,
                2,
            ),
            *([""] if speeds and times else []),
            *grid(["1,000 x 13,106, ms", "by", *SPREAD, "over ours", "off by"], times, 2),
        ]
    )


SPREAD = ["min", "median", "max"]


def grid(header: list[str], rows: list[list[str]], left: int) -> list[str]:
    """Align rows as a Markdown table, the first ``left`` columns to the left; none without rows."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return [
        "| "
        + " | ".join(
            cell.ljust(w) if i < left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in (header, rule, *rows)
    ]


def save(folder: Path, peers: Sequence[Row], rules: Sequence[Row], missing: Sequence[str]) -> None:
    """Write peers.json and peers.md."""
    about = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "missing": missing,
        "peers": peers,
        "rules": rules,
    }
    folder.mkdir(exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    text = (
        f"{about['date']}, {about['cores']} cores, {about['machine']}.\n\n{write(peers, rules)}\n"
    )
    if missing:
        text += f"\nNot measured this time: {', '.join(missing)}.\n"
    how = "# W1 in the peers\n\nWritten by `tools/benchmarks/peers/run.py`; see its README.\n\n"
    (folder / "peers.md").write_text(how + text, encoding="utf-8")
