"""What one worker of many holds and does in a round: functions of arrays, whatever connects it.

It has the updates of its cell, cut by columns. When the round is collected each worker takes over
neighbouring partitions of all n updates: the others give it theirs piece by piece, and it lets go
of what it has given. So it never holds much more than its part, n d 4 / workers bytes. Then it does
what the verbs of ``fedjury.rules.partitions`` ask.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fedjury.cluster.engine import NotHeld
from fedjury.learning.arrays import Matrix, read_only
from fedjury.rules.partitions import Array, Filler, Function, places, told, tree_sum

Numbers = npt.NDArray[np.int64]
"""(m,): rows, by their numbers."""


Arguments = tuple[Any, ...]
"""What a function is given besides."""


Some = tuple[int, int]
"""From where, and up to where."""


class Rows(Protocol):
    """The updates of a cell, cut into partitions of columns."""

    def part(self, p: int, order: Numbers) -> Matrix:
        """Return these of its rows in a partition, (m, w), in this order."""

    def release(self, p: int) -> None:
        """Let go of a partition, which nobody will ask for any more."""


@dataclass(frozen=True)
class Shape:
    """How the updates of a round are cut, and how many workers share the partitions."""

    n: int
    d: int
    count: int
    workers: int

    def of(self, worker: int) -> range:
        """Return the partitions of a worker: neighbours, whose sum is a part of the one tree."""
        each = self.count // self.workers
        return range(worker * each, (worker + 1) * each)

    def width(self, p: int) -> int:
        """Return the columns of a partition."""
        place = places(self.d, self.count)[p]
        return int(place.stop - place.start)

    def columns_of(self, worker: int) -> slice:
        """Return the columns of a worker's partitions."""
        cuts, mine = places(self.d, self.count), self.of(worker)
        return slice(cuts[mine[0]].start, cuts[mine[-1]].stop)


class Held(NamedTuple):
    """Neighbouring partitions of the updates: by number (n, w), and where in all columns."""

    parts: dict[int, Matrix]
    cuts: list[slice]

    def each(
        self, arguments: tuple[Any, ...]
    ) -> Iterator[tuple[int, int, Matrix, tuple[Any, ...]]]:
        """Yield number, first column, updates and arguments of each partition, to be read only.

        ``arguments``: of those by column, the columns that are held here.
        """
        begin = self.cuts[min(self.parts)].start
        for p, part in self.parts.items():
            first, end = self.cuts[p].start, self.cuts[p].stop
            yield p, first, read_only(part), told(arguments, slice(first - begin, end - begin))


class Worker:
    """One worker: gives away pieces of its cell's rows, and holds partitions of all rows.

    ``rows``: returns the rows of its cell, by the key of what was collected; raises a LookupError
    if there are none. Partitions that belong together have a number, under which they stay until
    they are dropped. All methods that are given a key or a number raise NotHeld if there is none.
    """

    def __init__(self, rows: Callable[[Hashable], Rows]) -> None:
        self._rows = rows
        self._held: dict[int, Held] = {}

    def clear(self) -> None:
        """Drop all partitions: whoever asked for them is gone."""
        self._held.clear()

    def drop(self, number: int) -> None:
        """Drop the partitions of a number, if there are any."""
        self._held.pop(number, None)

    # rows -> columns

    def begin(self, number: int, shape: Shape, worker: int) -> None:
        """Make room for the partitions of this worker; the system gives it as it is filled."""
        cuts = places(shape.d, shape.count)
        widths = {p: cuts[p].stop - cuts[p].start for p in shape.of(worker)}
        parts = {p: np.empty((shape.n, w), dtype=np.float32) for p, w in widths.items()}
        self._held[number] = Held(parts, cuts)

    def give(self, key: Hashable, p: int, order: Numbers, some: Some, release: bool) -> Matrix:
        """Return some of these rows of the cell in a partition, (m, w); ``release``: all of it."""
        try:
            rows = self._rows(key)
        except LookupError as why:
            raise NotHeld(f"no rows of {key!r} are held here") from why
        piece = rows.part(p, order[slice(*some)])
        if release:
            rows.release(p)
        return piece

    def place(self, number: int, p: int, at: Numbers, some: Some, piece: Matrix) -> None:
        """Make a piece (m, w) of a partition some of the rows ``at`` of it."""
        self._of(number).parts[p][at[slice(*some)]] = piece

    def place_own(
        self,
        number: int,
        p: int,
        at: Numbers,
        some: Some,
        key: Hashable,
        order: Numbers,
        release: bool,
    ) -> None:
        """Do so with rows of this worker's own cell, which nobody has to send."""
        self.place(number, p, at, some, self.give(key, p, order, some, release))

    # the three verbs

    def total(self, number: int, function: Function, *arguments: Any) -> Array:
        """Return the sum of what a function makes of the partitions, a part of the tree."""
        return tree_sum(self._answers(number, function, arguments))

    def columns(self, number: int, function: Function, *arguments: Any) -> Array:
        """Return what a function makes of the partitions, side by side."""
        return np.concatenate(list(self._answers(number, function, arguments)))

    def map(self, number: int, result: int, function: Filler, rows: int, *arguments: Any) -> None:
        """Hold so many new updates, which a function fills in, under another number."""
        held, made = self._of(number), {}
        for p, first, part, own in held.each(arguments):
            made[p] = np.empty((rows, part.shape[1]), dtype=np.float32)
            function(part, first, made[p], *own)
        self._held[result] = Held(made, held.cuts)

    def partition(self, number: int, p: int) -> Matrix:
        """Return one partition (n, w)."""
        return self._of(number).parts[p]

    def _answers(self, number: int, function: Function, arguments: Arguments) -> Iterator[Array]:
        for _, first, part, own in self._of(number).each(arguments):
            yield function(part, first, *own)

    def _of(self, number: int) -> Held:
        try:
            return self._held[number]
        except KeyError:
            raise NotHeld(f"no partitions are held here under the number {number}") from None
