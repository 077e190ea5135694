"""A child process that ends with its parent and may open many files."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

STOP_SECONDS = 2.0
OPEN_FILES = 65_536
"""One client is one open file; enough for tens of thousands."""


class User(NamedTuple):
    """Whom a program runs as: the numbers of a user, who need have no name, and its group."""

    number: int
    group: int


def start(
    command: Sequence[str], log: Path, where: Path, user: User | None, keep: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, out of reach of the terminal's Ctrl-C.

    It runs in the folder ``where``, as ``user`` if this is root, and gets the handles ``keep``.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    user = user if os.geteuid() == 0 else None
    with log.open("ab") as output, _many_open_files():
        return subprocess.Popen(
            [*dying_with_parent(), *command],
            cwd=where,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.number if user else None,
            group=user.group if user else None,
            extra_groups=[] if user else None,
            pass_fds=keep,
        )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a process: politely first, and after some seconds by force."""
    child.terminate()
    child.send_signal(signal.SIGCONT)  # one that was stopped would not hear it
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
