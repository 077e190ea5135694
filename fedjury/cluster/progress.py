"""What people see of a cluster: one line while it runs, and the table of ``cluster status``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fedjury.cluster.folder import FleetLine, State
from fedjury.cluster.known import alive


def line_of(state: State) -> str:
    """Return how far a cluster is."""
    nodes = f"{state.nodes:,} node{'s' * (state.nodes != 1)}"
    parts = [fleets_of(state.fleets), nodes if state.nodes else "", state.progress]
    return " · ".join(part for part in parts if part)


def fleets_of(fleets: Sequence[FleetLine]) -> str:
    """Return how many fleets are in which state."""
    if not fleets:
        return "no fleet yet"
    states = Counter(line.state for line in fleets)
    if set(states) == {"running"}:
        return "1 fleet runs" if len(fleets) == 1 else f"{len(fleets):,} fleets run"
    return f"{len(fleets):,} fleets: " + ", ".join(f"{n:,} {s}" for s, n in sorted(states.items()))


def table_of(state: State) -> str:
    """Return a table of a cluster's processes and fleets."""
    rows = [("", "process", "state", "where", "started again")]
    rows += [
        (each.name, str(each.pid), "running" if alive(each) else "gone", "", "")
        for each in (state.up, *state.programs)
    ]
    rows += [
        (each.name, str(each.pid or ""), each.state, each.machine, again(each))
        for each in state.fleets
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    about = f"run {state.run!r}, broker {state.broker}, Ray {state.address}"
    theirs = f"and {sum(map(alive, state.others)):,} processes that these have started"
    return "\n".join([about, *(line.rstrip() for line in lines), theirs, line_of(state)])


def document_of(state: State) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "run": state.run,
        "broker": state.broker,
        "ray": state.address,
        "nodes": state.nodes,
        "progress": state.progress,
        "processes": [each._asdict() | {"running": alive(each)} for each in state.processes],
        "fleets": [asdict(each) for each in state.fleets],
    }


def again(line: FleetLine) -> str:
    """Return how many times a fleet was started again, and where."""
    times = {"here": line.restarts, "elsewhere": line.moves}
    return ", ".join(f"{count} {where}" for where, count in times.items() if count)
