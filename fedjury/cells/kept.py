"""The updates of a round that a cell keeps, in room that grows with them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from fedjury.cells.rows import Rows, StoredPartitions
from fedjury.learning.arrays import Matrix, Vector

LEAST = 64
"""Updates that there is room for at the least."""


class Kept:
    """Rows that are written one after the other; from round to round their room is used again."""

    def __init__(self, d: int, partitions: int, folder: Path | None = None) -> None:
        """Keep updates of d parameters in so many partitions: in a folder, else in memory."""
        self._shape = d, partitions
        self._folder = folder
        self._rows: Rows | None = None

    def clear(self, expected: int) -> None:
        """Forget what there is, and have room for so many."""
        if self._rows is not None and self._rows.capacity < expected:
            self._rows.close()
            self._rows = None
        if self._rows is not None:
            self._rows.clear()
        else:
            self._rows = Rows(max(LEAST, expected), *self._shape, self._folder)

    def write(self, row: int, delta: Vector) -> None:
        """Keep an update (d,) as the next row."""
        if self._rows is None:
            self.clear(0)
        assert self._rows is not None
        if row == self._rows.capacity:
            self._grow(row)
        self._rows.write(row, delta)

    def partitions(self, order: np.ndarray) -> StoredPartitions:
        """Return these rows, in this order, as rules take them; good until a row is written."""
        assert self._rows is not None
        return self._rows.partitions(order)

    def part(self, p: int, order: np.ndarray) -> Matrix:
        """Return these rows of a partition, (m, w), in this order."""
        assert self._rows is not None
        return self._rows.part(p, order)

    def release(self, p: int) -> None:
        """Let go of a partition; no row is written before ``clear``."""
        assert self._rows is not None
        self._rows.release(p)

    def close(self) -> None:
        """Give back everything."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def _grow(self, written: int) -> None:
        """Make room for as many again."""
        before, self._rows = self._rows, None
        assert before is not None
        after = Rows(2 * before.capacity, *self._shape, self._folder)
        for row in range(written):
            one = np.array([row])
            after.write(row, np.hstack([before.part(p, one)[0] for p in range(before.count)]))
        before.close()
        self._rows = after


class KeptRows:
    """The updates of an attempt, for whoever reads them in another thread; they stay kept."""

    def __init__(self, kept: Kept, lock: threading.Lock) -> None:
        self._kept, self._lock = kept, lock

    def part(self, p: int, order: np.ndarray) -> Matrix:
        """Return these of the updates in a partition, (m, w), in this order."""
        with self._lock:
            return self._kept.part(p, order)

    def release(self, p: int) -> None:
        """Let go of a partition."""
        with self._lock:
            self._kept.release(p)
