"""How many files a process may open: each connection is one."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from fedjury.protocol.transport.link import LinkError

MOST = 65_536
"""More than this no process of ours needs."""

SPARE = 24
"""Besides connections and what is open already: pipes, data, and what only lasts a moment."""


def make_room(connections: int, what: str = "connections", otherwise: str = "") -> None:
    """Let this process open as many files as it may, and make sure that so many connections fit.

    Raises
    ------
    LinkError
        If they do not: how many files are needed, how many are allowed, and what to do; or
        ``otherwise``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    needed = connections + _open() + SPARE
    if soft != resource.RLIM_INFINITY and needed > soft:
        raise LinkError(
            f"{connections:,} {what} in one process need {needed:,} open files, and {soft:,} are "
            f"allowed: raise that ('ulimit -n {needed}', LimitNOFILE= of a service, --ulimit "
            f"nofile={needed} of a container){otherwise}"
        )


def _open() -> int:
    """Count the files that are open already."""
    with suppress(OSError):
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    return SPARE
