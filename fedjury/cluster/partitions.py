"""The updates of a round on workers: how they get there, and the verbs that rules work by.

Bits depend on the number of partitions, not on that of the workers, a power of two: each adds up a
part of the same tree. Of cells that are no power of two, the first so many hold partitions; all of
them give theirs away.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fedjury.cluster.engine import Engine, WorkerLost
from fedjury.cluster.shard import Numbers, Shape, Some
from fedjury.learning.arrays import Matrix, read_only
from fedjury.rules.partitions import (
    Array,
    ByColumn,
    Filler,
    Function,
    narrowed,
    places,
    tree_sum,
)

AHEAD = 1
"""Pieces on their way to each worker, besides the one that is waited for."""

PIECE = 4 << 20
"""Bytes of a piece at the most, but a row at the least: what a worker needs besides its part."""

_numbers = itertools.count()


class Placement(NamedTuple):
    """Which rows of a cell are taken, and which of all rows they become."""

    order: Numbers
    """(m,): rows of the cell."""
    at: Numbers
    """(m,): rows of all n."""


class WorkerPartitions:
    """Partitions that workers hold: ``fedjury.rules.partitions.Partitions``, over an engine."""

    def __init__(self, engine: Engine, shape: Shape, number: int) -> None:
        self._engine, self._shape, self._number = engine, shape, number
        weakref.finalize(self, _drop, engine, number, shape.workers).atexit = False

    @property
    def n(self) -> int:
        """Updates."""
        return self._shape.n

    @property
    def d(self) -> int:
        """Parameters of each."""
        return self._shape.d

    @property
    def count(self) -> int:
        """Partitions."""
        return self._shape.count

    def total(self, function: Function, *arguments: Any) -> Array:
        """Return the sum of what the function makes of them; each worker adds a part."""
        return tree_sum(self._results("total", function, arguments))

    def columns(self, function: Function, *arguments: Any) -> Array:
        """Return what the function makes of them, side by side."""
        return np.concatenate(list(self._results("columns", function, arguments)))

    def map(self, function: Filler, rows: int, *arguments: Any) -> WorkerPartitions:
        """Return so many new updates, which stay where they are made."""
        shape = replace(self._shape, n=rows)
        made = WorkerPartitions(self._engine, shape, next(_numbers))
        for _ in self._results("map", made._number, (function, rows, *arguments)):
            pass
        return made

    def whole(self) -> Matrix:
        """Return all of them in one array here, which must have the memory."""
        result = np.empty((self.n, self.d), dtype=np.float32)
        cuts = places(self.d, self.count)
        for worker in range(self._shape.workers):
            for p in self._shape.of(worker):
                call = self._engine.call(worker, "partition", self._number, p)
                result[:, cuts[p]] = self._engine.result(call)
        whole: Matrix = read_only(result)
        return whole

    def _results(self, method: str, first: Any, arguments: tuple[Any, ...]) -> Iterator[Any]:
        engine, calls = self._engine, deque[Any]()
        common = tuple(a if isinstance(a, ByColumn) else engine.send(a) for a in arguments)
        for worker in range(self._shape.workers):
            own = narrowed(common, self._shape.columns_of(worker))
            told = [engine.send(a) if isinstance(a, ByColumn) else a for a in own]
            calls.append(engine.call(worker, method, self._number, first, *told))
        while calls:
            yield engine.result(calls.popleft())


def gathered(
    engine: Engine,
    key: Hashable,
    placements: Sequence[Placement],
    d: int,
    count: int,
    *,
    keep: bool = False,
) -> WorkerPartitions:
    """Return the updates of all cells in so many partitions, spread over their workers.

    ``key``: which of their rows, of d parameters. ``placements``: by cell, the rows it gives, which
    together become each of the n rows once. ``keep``: cells keep what they give, so that after a
    worker was lost only its own cell has to be asked again, for as much memory again.

    Raises
    ------
    WorkerLost
        If a worker ended meanwhile.
    ValueError
        If there is not a placement for each worker, or a row would be filled twice or never.
    """
    n = _filled(engine, placements)
    shape = Shape(n, d, count, holders(engine.workers, count))
    result = WorkerPartitions(engine, shape, next(_numbers))
    number = result._number  # noqa: SLF001 - made here, only a moment ago
    sent = [Placement(*map(engine.send, placement)) for placement in placements]
    begun = [engine.call(k, "begin", number, shape, k) for k in range(shape.workers)]
    on_the_way = deque([begun])
    for step in _steps(shape, [len(placement.at) for placement in placements]):
        calls = []
        for worker, p, cell, some, last in step:
            (order, at), release = sent[cell], last and not keep
            if worker == cell:
                call = engine.call(worker, "place_own", number, p, at, some, key, order, release)
            else:
                piece = engine.call(cell, "give", key, p, order, some, release)
                call = engine.call(worker, "place", number, p, at, some, piece)
            calls.append(call)
        on_the_way.append(calls)
        if len(on_the_way) > AHEAD:
            _await(engine, on_the_way.popleft())
    for calls in on_the_way:
        _await(engine, calls)
    return result


def holders(workers: int, count: int) -> int:
    """Return how many of the workers hold partitions: a power of two, as many as there can be."""
    return min(count, 1 << (workers.bit_length() - 1))


def by_name(names: Sequence[Sequence[str]]) -> list[Placement]:
    """Return where the rows of each cell go if all are in the order of their senders' names.

    ``names``: by cell, the sender of each of its rows. Which cell an agent is in then does not
    matter.
    """
    flat = [name for cell in names for name in cell]
    rank = {name: row for row, name in enumerate(sorted(flat))}
    if len(rank) != len(flat):
        raise ValueError("an agent has updates in two cells, or two in one")
    return [
        Placement(np.arange(len(cell)), np.array([rank[name] for name in cell], dtype=np.int64))
        for cell in names
    ]


class _Task(NamedTuple):
    """A piece that goes from a cell to a worker."""

    worker: int
    p: int
    cell: int
    some: Some
    """Which of the cell's rows."""
    last: bool
    """Whether the cell has then given all of this partition."""


def _steps(shape: Shape, sizes: Sequence[int]) -> Iterator[list[_Task]]:
    """Yield what is done at a time: all workers ask different cells. ``sizes``: rows by cell."""
    cells, workers = len(sizes), range(shape.workers)
    for turn in range(shape.count // shape.workers):
        partitions = [shape.of(k)[turn] for k in workers]
        most = max(1, PIECE // max(1, shape.width(partitions[0]) * 4))
        for ahead in range(cells):
            pairs = [(k, (k + ahead) % cells) for k in workers]
            for start in range(0, max(sizes[cell] for _, cell in pairs), most):
                end = start + most
                yield [
                    _Task(k, partitions[k], cell, (start, end), end >= sizes[cell])
                    for k, cell in pairs
                    if start < sizes[cell]
                ]


def _filled(engine: Engine, placements: Sequence[Placement]) -> int:
    """Return how many rows these placements fill."""
    if len(placements) != engine.workers:
        raise ValueError(f"{len(placements)} placements for {engine.workers} workers")
    at = np.concatenate([placement.at for placement in placements])
    if not np.array_equal(np.sort(at), np.arange(len(at))):
        raise ValueError("placements must fill each row once")
    return len(at)


def _await(engine: Engine, calls: Sequence[Any]) -> None:
    for call in calls:
        engine.result(call)


def _drop(engine: Engine, number: int, workers: int) -> None:
    with suppress(WorkerLost):  # then it has dropped them
        for worker in range(workers):
            engine.call(worker, "drop", number)
