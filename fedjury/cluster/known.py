"""Processes that are known by number and by when they began, so that no other is ended for them.

A number that was noted down may be another program's by now; together with the moment at which it
began, as the system tells it, it is nobody else's (Linux).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fedjury.processes import adopt_orphans

PROC = Path("/proc")

TRIES = 20
"""How often it is looked for what processes have left."""


class Known(NamedTuple):
    """A process of ours."""

    name: str
    pid: int
    began: str
    """When, since which start of the machine."""


def known(name: str, pid: int) -> Known | None:
    """Return how to know a process again; None if there is none."""
    fields = _fields(pid)
    return Known(name, pid, f"{_boot()}/{fields[19]}") if fields else None


def alive(process: Known) -> bool:
    """Return whether it is still there, and no other has got its number."""
    return known(process.name, process.pid) == process


def below(pid: int) -> list[Known]:
    """Return all processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (fields := _fields(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = [], list(children.get(pid, ()))
    while todo:
        child = todo.pop()
        todo += children.get(child, ())
        if process := known(_name(child), child):
            found.append(process)
    return found


class Descendants:
    """All that this process starts from now on, and what that starts and leaves behind."""

    def __init__(self) -> None:
        adopt_orphans()
        self._before = {process.pid for process in below(os.getpid())}

    def there(self) -> list[Known]:
        """Return those that run."""
        return [process for process in below(os.getpid()) if process.pid not in self._before]

    def end(self, seconds: float) -> None:
        """End them, each after some seconds by force, until there are none."""
        for _ in range(TRIES):  # one may just have started another
            if not end(self.there(), seconds):
                return


def end(processes: Iterable[Known], seconds: float) -> list[Known]:
    """End processes, after some seconds by force; returns those that were still there."""
    there = [process for process in processes if alive(process)]
    _signal(there, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(map(alive, there)) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(filter(alive, there), signal.SIGKILL)
    return there


def _signal(processes: Iterable[Known], what: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, what)


def _fields(pid: int) -> list[str]:
    """Return what the system says of a process from its state on; nothing of one that has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    fields = text.rpartition(")")[2].split()  # before it is its name, with any characters
    return [] if fields[0] in "ZX" else fields


def _name(pid: int) -> str:
    with suppress(OSError):
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    return ""


@cache
def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
