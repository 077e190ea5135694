"""Where the rows of a cell are: in memory, or in files, cut by columns either way.

Into files a few rows at a time are written, collected side by side: one call for each row and each
partition takes twice the processor time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedjury.cells.spill import ITEM, SpillFile
from fedjury.learning.arrays import Matrix, Vector

Order = npt.NDArray[np.int64]
"""(m,): rows, in the order in which they are wanted."""

COLLECTED = 4 << 20
"""Bytes of rows that are collected before they are written into files, but one row at the least."""


class Store(Protocol):
    """Where rows are."""

    def write(self, row: int, delta: Vector) -> None:
        """Keep an update as a row, in place of what was there."""

    def read(self, p: int, order: Order) -> Matrix:
        """Return a partition of rows, in an array of its own."""

    def view(self, p: int, order: Order) -> Matrix:
        """Return a partition of rows, without a copy where there need be none."""

    def release(self, p: int) -> None:
        """Give back what a partition takes."""

    def clear(self) -> None:
        """Forget all rows."""

    def close(self) -> None:
        """Give back everything."""


class MemoryStore:
    """Rows in memory: an array a partition, asked for when a row is written."""

    def __init__(self, capacity: int, columns: list[slice]) -> None:
        """Have room for so many rows, cut into these columns."""
        self._capacity, self._columns = capacity, columns
        self._arrays: list[Matrix | None] = [None] * len(columns)

    def write(self, row: int, delta: Vector) -> None:
        """Copy an update into its row."""
        for p, columns in enumerate(self._columns):
            self._array(p)[row] = delta[columns]

    def read(self, p: int, order: Order) -> Matrix:
        """Return a copy of a partition of rows."""
        return self._array(p)[order]

    def view(self, p: int, order: Order) -> Matrix:
        """Return a partition of rows: the array itself, if they are the first ones, in order."""
        if not np.array_equal(order, np.arange(len(order))):
            return self.read(p, order)
        return self._array(p)[: len(order)]

    def release(self, p: int) -> None:
        """Let go of an array."""
        self._arrays[p] = None

    def clear(self) -> None:
        """Leave the arrays as they are: rows are written before they are read."""

    def close(self) -> None:
        """Let go of all arrays."""
        self._arrays = [None] * len(self._columns)

    def _array(self, p: int) -> Matrix:
        array = self._arrays[p]
        if array is None:
            width = self._columns[p].stop - self._columns[p].start
            array = self._arrays[p] = np.empty((self._capacity, width), dtype=np.float32)
        return array


class FileStore:
    """Rows in files, one a partition, in the order in which they came first."""

    def __init__(self, capacity: int, columns: list[slice], folder: Path) -> None:
        """Make the files in a folder; raises SpillError."""
        widths = [place.stop - place.start for place in columns]
        self._columns = columns
        self._files = [SpillFile(folder, width) for width in widths]
        height = max(1, min(capacity, COLLECTED // (ITEM * sum(widths))))
        self._collected = [np.empty((height, width), dtype=np.float32) for width in widths]
        self._height = height
        self._at = np.full(capacity, -1, dtype=np.int64)
        """At which place each row is; -1 at none."""
        self._taken = self._written = 0
        """Places that rows have, and those of them that are in the files."""

    def write(self, row: int, delta: Vector) -> None:
        """Collect an update, or put it in place of what is in the files already; raises SpillError.

        It is there only if nothing was raised.
        """
        at = int(self._at[row])
        if 0 <= at < self._written:
            for file, columns in zip(self._files, self._columns, strict=True):
                file.write(at, np.ascontiguousarray(delta[columns]))
            return
        if at < 0:
            if self._taken - self._written == self._height:
                self._write_out()
            self._at[row] = at = self._taken
            self._taken += 1
        place = at - self._written
        for collected, columns in zip(self._collected, self._columns, strict=True):
            collected[place] = delta[columns]

    def read(self, p: int, order: Order) -> Matrix:
        """Return a partition of rows; raises SpillError."""
        self._write_out()
        return self._files[p].read(self._at[order])

    view = read

    def release(self, p: int) -> None:
        """Empty a file; raises SpillError."""
        self._write_out()
        self._files[p].empty()

    def clear(self) -> None:
        """Forget where the rows are; what the files take on the disk is written over."""
        self._at[:] = -1
        self._taken = self._written = 0

    def close(self) -> None:
        """Let go of the files, and of what is in them."""
        for file in self._files:
            file.close()
        self._collected = []

    def _write_out(self) -> None:
        rows = self._taken - self._written
        if not rows:
            return
        for file, collected in zip(self._files, self._collected, strict=True):
            file.write(self._written, collected[:rows])
        self._written = self._taken
