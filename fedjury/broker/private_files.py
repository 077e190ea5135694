"""Files that nobody but their owner can read, at no time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def folder(path: Path, owner: int | None = None, mode: int = FOLDER) -> None:
    """Make a folder, or make an old one private; root gives a new one to ``owner``."""
    new = not path.exists()
    path.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    if new and owner is not None and os.geteuid() == 0:
        os.chown(path, owner, pwd.getpwuid(owner).pw_gid)
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)


def write(path: Path, data: str | bytes) -> None:
    """Write a file whole or not at all; what root writes belongs to the owner of its folder.

    So what is added for a broker, or for agents, that run as users of their own, is theirs.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    # Never there for others to read, not even between two system calls; nor through a link.
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE)
    with open(handle, "wb") as file:  # noqa: PTH123 - it is open already
        file.write(data.encode() if isinstance(data, str) else data)
        if os.geteuid() == 0:
            home = path.parent.stat()
            os.fchown(handle, home.st_uid, home.st_gid)
    new.replace(path)


def copy(source: Path, target: Path) -> None:
    """Copy a folder and all in it; what root copies belongs to whose folder it comes into."""
    home = target.parent.stat()
    folder(target)
    if os.geteuid() == 0:
        os.chown(target, home.st_uid, home.st_gid)
    for path in sorted(source.iterdir()):
        if path.is_dir():
            copy(path, target / path.name)
        else:
            write(target / path.name, path.read_bytes())


@contextlib.contextmanager
def alone_in(path: Path) -> Iterator[None]:
    """Let no other process be here at the same time; it waits."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
