"""Files of a run: written whole or not at all, durable when we say so, and by one process alone."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

ONCE = {
    errno.ENOSPC: "there is room",
    errno.EDQUOT: "there is room",
    errno.EFBIG: "larger files may be written",
    errno.EROFS: "it may be written",
    errno.EACCES: "it may be written",
    errno.EPERM: "it may be written",
}
"""What the disk refuses -> what has to come about before the same command goes on."""

UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP}
"""What a file system says that has no fsync for folders, or no way past the cache."""

PIECE = 4 << 20
"""Bytes from which on data are large: these go past the system's cache, so many at a time."""


SAID = 200
"""Characters of what a library says of a damaged file."""


class StoreError(Exception):
    """A run folder that cannot be used; one sentence."""


def damaged(file: Path, why: Exception | str) -> StoreError:
    """Make the error for a file that cannot be what we wrote."""
    text = str(why)[:SAID]  # it may quote the file
    return StoreError(f"{file} is damaged ({text}); remove it to continue without it")


def readable(file: Path) -> Path:
    """Return a file that is one: a pipe in its place would be waited for, for ever.

    Raises
    ------
    StoreError
        If something else is there.
    """
    if not file.is_file():
        raise damaged(file, "it is no file")
    return file


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence about this file."""
    try:
        yield
    except OSError as why:
        once = ONCE.get(why.errno or 0, "that is mended")
        raise StoreError(
            f"cannot write to {file}: {why.strerror or why}; nothing was lost, and the same "
            f"command resumes from it once {once}"
        ) from why


def writable(folder: Path) -> Path:
    """Make a folder if it is not there, and return it.

    Raises
    ------
    StoreError
        If we may not write there.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def replace(file: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    StoreError
        If the disk refuses; what was there before is still there.
    """
    part = file.with_suffix(".part")
    with explained(file):
        try:
            with _opened(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as number:
                _write(number, data)
            part.replace(file)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise
        sync(file.parent)


def append(file: Path, line: bytes) -> None:
    """Add a line to a file, whole or not at all.

    Raises
    ------
    StoreError
        If the disk refuses.
    """
    with explained(file), _opened(file, os.O_RDWR | os.O_APPEND | os.O_CREAT) as number:
        size = os.fstat(number).st_size
        if size and os.pread(number, 1, size - 1) != b"\n":
            line = b"\n" + line  # a crash left half a line: a new one must not join it
        try:
            _write(number, line)
        except OSError:
            with suppress(OSError):
                os.ftruncate(number, size)
            raise
        if not size:
            sync(file.parent)


def remove(file: Path) -> None:
    """Remove a file if it is there; ``StoreError`` if the disk refuses."""
    with explained(file):
        if file.exists():  # a disk that is read-only refuses to remove what is not there
            file.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make durable which files are in a folder: a rename alone may not outlive a power cut."""
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as number:
        try:
            os.fsync(number)
        except OSError as why:
            if why.errno not in UNSUPPORTED:
                raise


@contextmanager
def held(folder: Path, run: str) -> Iterator[None]:
    """Keep a run's folder to this process until we are done with it, or die.

    Raises
    ------
    StoreError
        If another process holds it, or nobody may write there.
    """
    file = writable(folder) / "lock"
    with explained(file):
        try:
            lock = FileLock(file, fallback_to_soft=False).acquire(blocking=False)
        except Timeout:
            text = file.read_text(errors="replace").strip()
            agent = f" (process {text})" if text.isdecimal() else ""
            raise StoreError(
                f"run {run!r} in {folder} is in use by another aggregator{agent}"
            ) from None
    with lock:
        with suppress(OSError):  # the number is for people; a full disk does without
            file.write_text(f"{os.getpid()}\n")
        yield


@contextmanager
def _opened(file: Path, flags: int) -> Iterator[int]:
    """Open a file and close it; yields its descriptor."""
    number = os.open(file, flags | os.O_CLOEXEC, 0o666)
    try:
        yield number
    finally:
        os.close(number)


def _write(number: int, data: bytes | memoryview) -> None:
    """Write all of it, durably. Nothing is buffered that a later close could write again."""
    rest = memoryview(data)
    if len(rest) >= PIECE:
        rest = _write_past_the_cache(number, rest)
    while rest:
        rest = rest[os.write(number, rest) :]
    os.fsync(number)


def _write_past_the_cache(number: int, data: memoryview) -> memoryview:
    """Write large data to a new file without the system's cache; returns what is left to write.

    That is all but the end of it, or all where the file system refuses. A hundred megabytes take
    20 ms of processor time so; through the cache, which they push everything else out of, 35 ms
    and under pressure 300.
    """
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    try:
        fcntl.fcntl(number, fcntl.F_SETFL, flags | os.O_DIRECT)
        with mmap.mmap(-1, PIECE) as piece:  # begins where a page does, as it has to
            while len(data) >= PIECE:
                piece[:] = data[:PIECE]
                written = os.write(number, piece)
                data = data[written:]
                if written < PIECE:
                    break
    except OSError as why:
        if why.errno not in UNSUPPORTED:
            raise
    finally:
        fcntl.fcntl(number, fcntl.F_SETFL, flags)
    return data
