"""A child process that ends with its parent and may open many files."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

STOP_SECONDS = 5.0
OPEN_FILES = 65_536
"""One client is one open file; enough for tens of thousands."""


def start(
    command: Sequence[str], log: Path, where: Path, user: int | None, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, out of reach of the terminal's Ctrl-C.

    It runs in the folder ``where``, as ``user`` if this is root, and gets the handles ``keep``.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    root = user is not None and os.geteuid() == 0
    group = pwd.getpwuid(user).pw_gid if root and user is not None else None
    with log.open("ab") as output, _many_open_files():
        return subprocess.Popen(
            [*dying_with_parent(), *command],
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user if root else None,
            group=group,
            extra_groups=[] if root else None,
            pass_fds=keep,
        )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process: politely first, and after some seconds by force."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def dying_with_parent() -> list[str]:
    """Give the prefix that makes Linux end a program when its parent is killed, if it is there."""
    setpriv = shutil.which("setpriv")
    # BusyBox has a setpriv that cannot do this.
    if setpriv is None or Path(setpriv).resolve().name != "setpriv":
        return []
    return [setpriv, "--pdeathsig", "TERM"]


@contextlib.contextmanager
def _many_open_files() -> Iterator[None]:
    """Let children that are started meanwhile open as many files as this process may allow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    wanted = OPEN_FILES if unlimited else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
