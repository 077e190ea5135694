"""How many files a process may open: each connection is one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from fedjury import processes
from fedjury.protocol.transport.connection import TransportError

SPARE = 24
"""Besides connections and what is open already: pipes, data, and what only lasts a moment."""


def make_room(connections: int, what: str = "connections", otherwise: str = "") -> None:
    """Let this process open as many files as it may, and make sure that so many connections fit.

    Raises
    ------
    TransportError
        If they do not: how many files are needed, how many are allowed, and what to do; or
        ``otherwise``.
    """
    processes.open_many_files()
    needed, allowed = connections + _open() + SPARE, processes.most_open_files()
    if needed > allowed:
        raise TransportError(
            f"{connections:,} {what} in one process need {needed:,} open files, and "
            f"{allowed:,.0f} are allowed: raise that ('ulimit -n {needed}', LimitNOFILE= of "
            f"a service, --ulimit nofile={needed} of a container){otherwise}"
        )


def _open() -> int:
    """Count the files that are open already."""
    with suppress(OSError):
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    return SPARE
