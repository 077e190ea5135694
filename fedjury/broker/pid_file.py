"""Where a private broker says which process it is, so that it can be told to look again.

The broker holds a lock on the file for as long as it lives, so that a number that was left behind,
and may be another program's by now, is not taken for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

NAME = "broker.pid"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open and lock the file; yields a handle, whose lock is that of every child that gets it.

    Raises
    ------
    BlockingIOError
        If a broker that was started from this folder runs already.
    """
    handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        yield handle
    finally:
        os.close(handle)


def tell(folder: Path) -> bool:
    """Have the broker that was started from this folder read its files; whether there is one."""
    try:
        handle = os.open(folder / NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(handle, 20).decode("ascii", "replace")
        if not text.isdigit():
            return False  # it is only just starting, and reads its files anyway
        os.kill(int(text), signal.SIGHUP)
        return True
    else:
        return False
    finally:
        os.close(handle)
