"""A disk that dies, or refuses, at one chosen operation: what a kill or a full disk comes to."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A disk that refuses in this way still removes and shortens files."""


class Torn(BaseException):
    """The moment at which a process dies: nothing in it may catch that, or do anything after."""


class Disk:
    """Counts what is done to a folder's files, and fails from operation number ``at`` on.

    ``why``: the errno with which it refuses; None: the process dies. A write counts twice, for it
    may be cut off in its middle.
    """

    def __init__(self, folder: Path, at: int, why: int | None = None) -> None:
        self.folder, self.at, self.why = str(folder), at, why
        self.done: list[str] = []
        self.hit = False
        self._open: dict[int, str] = {}
        self._real = {
            name: getattr(os, name)
            for name in ("open", "write", "fsync", "replace", "unlink", "ftruncate", "mkdir")
        }

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        """Put ourselves between this process and its files."""
        patch.setattr(os, "open", self._opening)
        patch.setattr(os, "write", self._writing)
        for name in ("fsync", "ftruncate"):
            patch.setattr(os, name, self._with_number(name))
        for name in ("replace", "unlink", "mkdir"):
            patch.setattr(os, name, self._with_path(name))

    def _moment(self, what: str, file: str) -> None:
        """Fail, if it is time to."""
        spared = self.why in FULL and what in ("unlink", "ftruncate", "fsync")
        if not spared and (self.hit or len(self.done) == self.at):
            self.hit = True
            raise Torn if self.why is None else OSError(self.why, os.strerror(self.why))
        if not self.hit:
            self.done.append(f"{what} {Path(file).name}")

    def _opening(self, path, flags, *more, **named):
        number = None
        if str(path).startswith(self.folder):
            self._moment("open", str(path))
        number = self._real["open"](path, flags, *more, **named)
        self._open.pop(number, None)
        if str(path).startswith(self.folder):
            self._open[number] = str(path)
        return number

    def _writing(self, number, data):
        if number in self._open:
            self._moment("write", self._open[number])
            try:
                self._moment("half of", self._open[number])
            except BaseException:
                self._real["write"](number, data[: len(data) // 2])
                raise
        return self._real["write"](number, data)

    def _with_number(self, name):
        def operate(number, *more):
            if number in self._open:
                self._moment(name, self._open[number])
            return self._real[name](number, *more)

        return operate

    def _with_path(self, name):
        def operate(path, *more, **named):
            if str(path).startswith(self.folder):
                self._moment(name, str(path))
            return self._real[name](path, *more, **named)

        return operate


@contextmanager
def cut(folder: Path, at: int, why: int | None = None):
    """Let operation number ``at`` on a folder be the last one; yields the disk."""
    disk = Disk(folder, at, why)
    with pytest.MonkeyPatch.context() as patch:
        disk.patch(patch)
        yield disk
