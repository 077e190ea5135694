"""Processes seen from outside (Linux): families, memory, processor time; standard library alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, and they."""
    yield pid
    with suppress(OSError):
        for task in list(Path(f"/proc/{pid}/task").iterdir()):
            for child in (task / "children").read_text(encoding="utf-8").split():
                yield from family(int(child))


def pss(pid: int) -> float:
    """Return a process's proportional set size in MB, 0 if it has ended."""
    with suppress(OSError, StopIteration):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        return int(next(r for r in rollup.splitlines() if r.startswith("Pss:")).split()[1]) / 1024
    return 0.0


def resident(pid: int) -> int:
    """Return a process's memory (resident set size) in bytes, 0 if it has ended."""
    with suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of those it has waited for, 0 if it has ended."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        # User and system time of the process, then of its children; its name may have spaces.
        return sum(map(int, stat.rpartition(")")[2].split()[11:15])) / TICKS
    return 0.0
