"""The shares of a fleet that replicas hold, by locks in a folder that they have in common.

A lock is held by one alone and is free once who held it is dead, whatever it died of. Nobody counts
the replicas at one moment: each takes its part of the shares that are there, gives some up when
another replica comes, and takes over those of one that is gone.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedjury.protocol.transport.connection import TransportError

MOST = 12
"""Shares that a fleet is cut into, each of which is a process: 2, 3, 4, 6 or 12 replicas get
equally many."""

SETTLE = 2.0
"""Seconds that a replica waits for others that start with it, before it takes its first share."""


def quota(rank: int, replicas: int, count: int) -> int:
    """Return how many of ``count`` shares the replica of this rank (from 0) is to hold."""
    return count // replicas + (rank < count % replicas)


class Claims:
    """What one replica holds. Of nothing here can two hold the same."""

    def __init__(self, folder: Path, count: int) -> None:
        self.count = count
        self.held: dict[int, int] = {}
        """Share (from 0) -> the descriptor of its lock."""
        self._folder = folder
        self._name = f"replica-{uuid.uuid4().hex}"
        # Locked before it has its name: a file without a lock is one that was left behind.
        part = folder / f"new-{self._name}"
        self._own = _opened(part)
        fcntl.flock(self._own, fcntl.LOCK_EX)
        part.rename(folder / self._name)
        if self._replicas() == [self._name]:
            for file in folder.glob("over-*"):
                file.unlink(missing_ok=True)

    def spare(self) -> list[int]:
        """Return the shares of ours that others are to have."""
        return sorted(self.held)[self._quota() :]

    def take(self) -> list[int]:
        """Take what is free of what is ours to hold; returns those shares."""
        taken: list[int] = []
        missing = self._quota() - len(self.held)
        for share in range(self.count):
            if len(taken) >= missing:
                break
            if share not in self.held and self._lock(share):
                taken.append(share)
        return taken

    def give(self, share: int) -> None:
        """Let another have a share; nothing of ours may use it any more."""
        _unlock(self.held.pop(share))

    def end(self, run: str) -> None:
        """Note for the other replicas that a run is over."""
        (self._folder / f"over-{run}").touch()

    def ended(self, run: str) -> bool:
        """Say whether a replica has noted that."""
        return (self._folder / f"over-{run}").exists()

    def close(self) -> None:
        """Let go of everything."""
        for share in list(self.held):
            self.give(share)
        with suppress(OSError):
            (self._folder / self._name).unlink()
        _unlock(self._own)

    def _quota(self) -> int:
        replicas = self._replicas()
        return quota(replicas.index(self._name), len(replicas), self.count)

    def _replicas(self) -> list[str]:
        """Return the names of those that live, in order; what is left of others is removed."""
        files = self._folder.glob("replica-*")
        return sorted(f.name for f in files if f.name == self._name or _is_held(f))

    def _lock(self, share: int) -> bool:
        number = _opened(self._folder / f"share-{share}")
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            return False
        self.held[share] = number
        return True


@contextmanager
def claimed(folder: Path, count: int) -> Iterator[Claims]:
    """Be one of the replicas that share a fleet of ``count`` shares out in this folder.

    Raises
    ------
    TransportError
        If nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claims = Claims(folder, count)
    except OSError as why:
        raise TransportError(f"{folder} cannot hold the replicas' shares: {why.strerror}") from why
    try:
        time.sleep(SETTLE)
        yield claims
    finally:
        claims.close()


def _opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _is_held(file: Path) -> bool:
    """Say whether somebody holds a file's lock; one that nobody holds is removed."""
    with suppress(FileNotFoundError):
        number = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
        except BlockingIOError:
            return True
        finally:
            os.close(number)
    return False


def _unlock(number: int) -> None:
    """Free a lock, though processes that we started hold the same open file."""
    fcntl.flock(number, fcntl.LOCK_UN)
    os.close(number)
