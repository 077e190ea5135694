"""The updates of a cell, kept as they arrive and already cut by columns, and rules over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedjury.cells.spill import ITEM, SpillFile
from fedjury.cells.stores import FileStore, MemoryStore, Order, Store
from fedjury.learning.arrays import Matrix, Vector, read_only
from fedjury.rules.partitions import Array, Filler, Function, places, told, tree_sum

Part = Callable[[], Matrix]
"""Returns a partition (n, w), which nobody writes."""


class Rows:
    """Up to ``capacity`` updates of d parameters, in ``count`` partitions of columns.

    One thread at a time may use them.
    """

    def __init__(self, capacity: int, d: int, count: int, folder: Path | None = None) -> None:
        """Keep them in files in a folder, else in memory.

        Raises
        ------
        ValueError
            If a number is not positive.
        SpillError
            If no file can be made there.
        """
        if min(capacity, d, count) < 1:
            raise ValueError(f"no rows of shape {capacity} x {d} in {count} partitions")
        self.capacity, self.d, self.count, self.folder = capacity, d, count, folder
        columns = places(d, count)
        self._store: Store = (
            MemoryStore(capacity, columns)
            if folder is None
            else FileStore(capacity, columns, folder)
        )
        self._there = np.zeros(capacity, dtype=bool)
        self._released: set[int] = set()
        self._closed = False

    def write(self, row: int, delta: Vector) -> None:
        """Keep an update (d,) as a row, in place of what was there.

        Raises
        ------
        ValueError
            If there is no such row, it is no update, or a partition was released.
        SpillError
            If the disk does not take it.
        """
        if not 0 <= row < self.capacity:
            raise ValueError(f"there is no row {row} of {self.capacity:,}")
        if delta.shape != (self.d,) or delta.dtype != np.float32:
            raise ValueError(f"{delta.dtype} {delta.shape} is no update of {self.d:,} float32")
        if self._released or self._closed:
            raise ValueError("no row can be written where partitions were released")
        self._store.write(row, delta)
        self._there[row] = True

    def part(self, p: int, order: Order) -> Matrix:
        """Return a partition of these rows, in this order, as an array (m, w) of its own.

        Raises
        ------
        ValueError
            If there is no such partition or row.
        SpillError
            If the disk does not give it.
        """
        return self._store.read(p, self._checked(p, order))

    def view(self, p: int, order: Order) -> Matrix:
        """Return the same, read-only; it is no copy where memory holds it just so.

        Raises
        ------
        ValueError, SpillError
            As ``part`` does.
        """
        result: Matrix = read_only(self._store.view(p, self._checked(p, order)))
        return result

    def partitions(self, order: Order) -> StoredPartitions:
        """Return these rows, in this order, as rules take them; good until rows are written."""
        parts = [partial(self.view, p, order) for p in range(self.count)]
        return StoredPartitions(parts, len(order), self.d, self.folder)

    def release(self, p: int) -> None:
        """Give back the memory or the file of a partition; nothing is written until ``clear``."""
        self._known(p)
        self._released.add(p)
        self._store.release(p)

    def clear(self) -> None:
        """Forget all rows; memory and files that were not released are used again."""
        if self._closed:
            raise ValueError("the rows were closed")
        self._there[:] = False
        self._released.clear()
        self._store.clear()

    def close(self) -> None:
        """Give back everything. Nothing can be kept afterwards."""
        if not self._closed:
            self._closed = True
            self._released.update(range(self.count))
            self._store.close()

    def _known(self, p: int) -> None:
        if not 0 <= p < self.count:
            raise ValueError(f"there is no partition {p} of {self.count}")
        if p in self._released:
            raise ValueError(f"partition {p} was released")

    def _checked(self, p: int, order: Order) -> Order:
        self._known(p)
        order = np.asarray(order)
        if order.ndim != 1 or order.dtype.kind not in "iu":
            raise ValueError(f"{order.dtype} {order.shape} are no numbers of rows")
        known = (order >= 0) & (order < self.capacity)
        known[known] = self._there[order[known]]
        if not known.all():
            raise ValueError(f"nothing was written as row {order[~known][0]}")
        return order


@dataclass(frozen=True)
class StoredPartitions:
    """Partitions that are looked at one after the other, so that one at a time is in memory."""

    parts: Sequence[Part]
    n: int
    d: int
    folder: Path | None = None
    """Where new updates go that a step makes; None: they stay in memory."""

    @property
    def count(self) -> int:
        """Partitions, a power of two."""
        return len(self.parts)

    def total(self, function: Function, *arguments: Any) -> Array:
        """Return the sum of what the function makes of them."""
        return tree_sum(self._answers(function, arguments))

    def columns(self, function: Function, *arguments: Any) -> Array:
        """Return what the function makes of them side by side."""
        return np.concatenate(list(self._answers(function, arguments)))

    def map(self, function: Filler, rows: int, *arguments: Any) -> StoredPartitions:
        """Return as many new updates, which the function fills in."""
        made = [
            self._made(part, place, function, rows, arguments)
            for part, place in zip(self.parts, places(self.d, self.count), strict=True)
        ]
        return StoredPartitions(made, rows, self.d, self.folder)

    def whole(self) -> Matrix:
        """Return all of them in one array.

        Raises
        ------
        ValueError
            If that is more than half of this machine's memory.
        """
        size = self.n * self.d * ITEM
        if 2 * size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise ValueError(
                f"{self.n:,} updates of {self.d:,} parameters are {size / 1e9:,.1f} GB, which do "
                "not fit into memory; take a rule that works by partitions"
            )
        result = np.empty((self.n, self.d), dtype=np.float32)
        for part, place in zip(self.parts, places(self.d, self.count), strict=True):
            result[:, place] = part()
        whole: Matrix = read_only(result)
        return whole

    def _answers(self, function: Function, arguments: tuple[Any, ...]) -> Iterator[Array]:
        for part, place in zip(self.parts, places(self.d, self.count), strict=True):
            yield function(part(), place.start, *told(arguments, place))

    def _made(
        self,
        part: Part,
        place: slice,
        function: Filler,
        rows: int,
        arguments: tuple[Any, ...],
    ) -> Part:
        out = np.empty((rows, place.stop - place.start), dtype=np.float32)
        function(part(), place.start, out, *told(arguments, place))
        if self.folder is None:
            return partial(read_only, out)
        file = SpillFile(self.folder, out.shape[1])
        file.write(0, out)
        return partial(file.read, np.arange(rows))
