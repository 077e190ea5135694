"""The updates of a round cut into partitions of columns, and the three verbs that rules work by.

A rule never asks where the numbers are. It hands a function to a verb, which calls it once for each
partition: ``function(part (n, w), first, *arguments)``, where ``first`` is the first of the w
columns. So one rule works in one process and, with the partitions spread over workers, in many.
For that, functions belong to a module and arguments are plain: arrays, numbers, None. An argument
that has a value for each column is given ``by_column``: a partition is told those of its own.

Sums are added in a binary tree over the partitions that never changes. Workers that hold 1, 2, 4 …
neighbours each of them add a part of that same tree, and the bits are the same. They do depend on
the number of partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import Matrix, read_only
from fedjury.registry.faults import NotTheirs
from fedjury.rules.rule import Context, Samples

Array = npt.NDArray[Any]

Function = Callable[..., Array]
"""(part (n, w), its first column, arguments ...) -> an array of its own."""

Filler = Callable[..., None]
"""(part (n, w), its first column, new part (m, w) to fill, arguments ...) -> nothing."""


@dataclass(frozen=True)
class ByColumn:
    """An argument (..., d) of which a function is told the columns of its partition, (..., w)."""

    values: Array


def by_column(values: Array | None) -> ByColumn | None:
    """Return an argument (..., d) as such; None of none."""
    return None if values is None else ByColumn(values)


def narrowed(arguments: tuple[Any, ...], place: slice) -> tuple[Any, ...]:
    """Return arguments as somebody needs them who holds these columns alone."""
    return tuple(
        ByColumn(value.values[..., place]) if isinstance(value, ByColumn) else value
        for value in arguments
    )


def told(arguments: tuple[Any, ...], place: slice) -> tuple[Any, ...]:
    """Return arguments as the function is given them for the partition of these columns."""
    return tuple(
        value.values[..., place] if isinstance(value, ByColumn) else value for value in arguments
    )


COLUMNWISE: set[Callable[..., Any]] = set()
"""Functions that make the same of a column whatever columns stand beside it. Where all are in one
array, one call is enough; many for narrow parts of long rows take up to a third more time."""

F = TypeVar("F", bound=Callable[..., Any])


def columnwise(function: F) -> F:
    """Mark a function of ``columns`` or ``map`` that makes the same of a column, bit for bit."""
    COLUMNWISE.add(function)
    return function


class WorkerLost(NotTheirs):
    """A worker that held partitions has ended, and what it held is gone."""

    def __init__(self, worker: int, why: str = "") -> None:
        """``worker``: its number, from 0. ``why``: what else there is to say, for people."""
        super().__init__(worker, why)
        self.worker, self.why = worker, why

    def __str__(self) -> str:
        return self.why or f"worker {self.worker} is lost, and the updates that it held"


MOST = 1024
"""Partitions at the most."""


@runtime_checkable
class Partitions(Protocol):
    """Updates (n, d), cut by columns. What the verbs return may be read-only."""

    @property
    def n(self) -> int:
        """Updates."""

    @property
    def d(self) -> int:
        """Parameters of each."""

    @property
    def count(self) -> int:
        """Partitions, a power of two."""

    def total(self, function: Function, *arguments: Any) -> Array:
        """Return the sum of what the function makes of the partitions, always of one shape."""

    def columns(self, function: Function, *arguments: Any) -> Array:
        """Return what the function makes of the partitions, (w,) each, side by side: (d,)."""

    def map(self, function: Filler, rows: int, *arguments: Any) -> Partitions:
        """Return so many new updates, in partitions that the function fills; they stay in place."""

    def whole(self) -> Matrix:
        """Return all of them in one array (n, d), read-only, for rules that know no partitions."""


@dataclass(frozen=True)
class LocalPartitions:
    """Partitions of an array in this process: views of it."""

    updates: Matrix
    """(n, d), read-only."""
    count: int

    @property
    def n(self) -> int:
        """Updates."""
        return len(self.updates)

    @property
    def d(self) -> int:
        """Parameters of each."""
        return int(self.updates.shape[1])

    def total(self, function: Function, *arguments: Any) -> Array:
        """Return the sum of what the function makes of them."""
        return tree_sum(self._answers(places(self.d, self.count), function, arguments))

    def columns(self, function: Function, *arguments: Any) -> Array:
        """Return what the function makes of them side by side."""
        answers = list(self._answers(self._places(function), function, arguments))
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def map(self, function: Filler, rows: int, *arguments: Any) -> LocalPartitions:
        """Return as many new updates, in one array that the function fills."""
        result = np.empty((rows, self.d), dtype=np.float32)
        for place in self._places(function):
            given = told(arguments, place)
            function(self.updates[:, place], place.start, result[:, place], *given)
        return LocalPartitions(read_only(result), self.count)

    def whole(self) -> Matrix:
        """Return all of them in one array."""
        return self.updates

    def _places(self, function: Callable[..., Any]) -> list[slice]:
        return places(self.d, 1 if function in COLUMNWISE else self.count)

    def _answers(
        self, cuts: list[slice], function: Function, arguments: tuple[Any, ...]
    ) -> Iterator[Array]:
        for place in cuts:
            yield function(self.updates[:, place], place.start, *told(arguments, place))


def places(d: int, count: int) -> list[slice]:
    """Return which of d columns each partition has: as many as the others, or one more."""
    return [slice(part * d // count, (part + 1) * d // count) for part in range(count)]


def is_count(count: int) -> bool:
    """Say whether there can be so many partitions: a power of two, ``MOST`` at the most."""
    return 1 <= count <= MOST and count & (count - 1) == 0


def cut(updates: Matrix, count: int) -> LocalPartitions:
    """Cut updates (n, d) into so many partitions.

    Raises
    ------
    ValueError
        If the count is no power of two from 1 to ``MOST``.
    """
    if not is_count(count):
        raise ValueError(f"partitions must be a power of two from 1 to {MOST:,}, not {count}")
    return LocalPartitions(read_only(updates), count)


def as_partitions(updates: Matrix | Partitions) -> Partitions:
    """Return updates as partitions: an array as a single one."""
    return cut(updates, 1) if isinstance(updates, np.ndarray) else updates


def tree_sum(parts: Iterable[Array]) -> Array:
    """Return the sum of arrays, neighbours first, then the sums of neighbours, and so on.

    The arrays are taken one by one, so that few of them are there at a time.
    """
    waiting: list[tuple[int, Array]] = []  # how many were added up, and their sum
    for part in parts:
        size, total = 1, part
        while waiting and waiting[-1][0] == size:
            left = waiting.pop()[1]
            with np.errstate(all="ignore"):  # of updates that are not finite
                total = np.add(left, total, out=left if left.flags.writeable else None)
            size *= 2
        waiting.append((size, total))
    if len(waiting) != 1:
        raise ValueError("partitions must be a power of two, and one at least")
    return waiting[0][1]


T = TypeVar("T")
"""What a rule returns: an update (d,), or with it what it keeps."""


@dataclass(frozen=True)
class PartitionedRule(Generic[T]):
    """A rule that works by the three verbs. Given an array, it takes it as one partition."""

    work: Callable[[Partitions, Samples, Context], T]

    def __call__(self, updates: Matrix | Partitions, samples: Samples, context: Context) -> T:
        """Return what the rule makes of the updates."""
        return self.work(as_partitions(updates), samples, context)


@dataclass(frozen=True)
class PartitionedStep:
    """A step before a rule that works by the three verbs. Given an array, it returns one."""

    work: Callable[[Partitions, Samples, Context], tuple[Partitions, Samples]]

    @overload
    def __call__(
        self, updates: Matrix, samples: Samples, context: Context
    ) -> tuple[Matrix, Samples]: ...

    @overload
    def __call__(
        self, updates: Partitions, samples: Samples, context: Context
    ) -> tuple[Partitions, Samples]: ...

    def __call__(
        self, updates: Matrix | Partitions, samples: Samples, context: Context
    ) -> tuple[Matrix | Partitions, Samples]:
        """Return what the step makes of the updates."""
        rows, counts = self.work(as_partitions(updates), samples, context)
        return (rows.whole() if isinstance(updates, np.ndarray) else rows), counts


def given(plugin: Callable[..., Any], updates: Partitions) -> Any:
    """Return the updates as a rule or a step takes them: in one array, if it knows nothing else."""
    return updates if isinstance(plugin, PartitionedRule | PartitionedStep) else updates.whole()
