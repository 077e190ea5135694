"""Arrays in files without a name, for what memory is too small for.

Such a file is gone with the process that made it, however that ends, and no two ever collide. It is
written and read by plain calls: pages of a mapping would count as this process's memory.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedjury.learning.arrays import Matrix

ITEM = 4
"""Bytes of a float32."""
PIECE = 4 << 20
"""Bytes that are read at a time where rows are wanted in another order than they have on the disk:
a call for each row costs more, and a disk that has to seek much more."""


class SpillError(Exception):
    """Updates cannot be kept in a folder: one sentence for people."""


class SpillFile:
    """A file of rows (m, w), which has no name."""

    def __init__(self, folder: Path, width: int) -> None:
        """Make it in a folder, for rows of so many numbers."""
        self.folder, self.width = folder, width
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._file = os.dup(file.fileno())
        self._closing = weakref.finalize(self, os.close, self._file)

    def write(self, at: int, rows: Matrix) -> None:
        """Write rows (m, w) from the place ``at`` on."""
        if not rows.size:
            return
        left, begin = rows.data.cast("B"), at * self.width * ITEM
        with explained(self.folder):
            while left:
                done = os.pwrite(self._file, left, begin)
                left, begin = left[done:], begin + done

    def read(self, places: np.ndarray) -> Matrix:
        """Return the rows (m, w) at these places (m,), in this order."""
        result = np.empty((len(places), self.width), dtype=np.float32)
        if not result.size:
            return result
        order = np.argsort(places, kind="stable")
        pieces = list(runs(places))
        with explained(self.folder):
            if len(pieces) > 1 and len(list(runs(places[order]))) == 1:
                self._read_all(result, order, int(places[order[0]]))
                return result
            for start, end in pieces:
                self._read(result[start:end], int(places[start]))
        return result

    def close(self) -> None:
        """Let go of it, and of what is in it."""
        self._closing()
        self._file = -1  # the system soon gives its number to another

    def empty(self) -> None:
        """Give back what it takes on the disk."""
        with explained(self.folder):
            os.ftruncate(self._file, 0)

    def _read_all(self, result: Matrix, order: np.ndarray, first: int) -> None:
        """Read all rows from the first place on, in this order, as the disk has them."""
        m, height = len(order), max(1, PIECE // (ITEM * self.width))
        piece = np.empty((min(m, height), self.width), dtype=np.float32)
        for start in range(0, m, height):
            rows = order[start : start + height]
            self._read(piece[: len(rows)], first + start)
            result[rows] = piece[: len(rows)]

    def _read(self, rows: Matrix, at: int) -> None:
        left, begin = rows.data.cast("B"), at * self.width * ITEM
        while left:
            done = os.preadv(self._file, [left], begin)
            if not done:
                raise OSError("a file is shorter than what was written into it")
            left, begin = left[done:], begin + done


def runs(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield from where to where each place is the one after that before it: one call reads them."""
    cuts = np.flatnonzero(np.diff(places) != 1) + 1
    starts = [0, *cuts.tolist()]
    yield from zip(starts, [*starts[1:], len(places)], strict=True)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into a sentence."""
    try:
        yield
    except OSError as why:
        raise SpillError(f"updates cannot be kept in {folder}: {why.strerror or why}") from why
