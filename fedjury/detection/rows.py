"""What a detector remembers of each agent: rows that are found again by name.

Agents come, go and are not called each round, so the rows of one round are not those of the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.detection.detector import Memory

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.bytes_]
Values = Mapping[str, npt.NDArray[Any]]

HORIZON = 1000
"""Rounds after which an agent that was not heard of is forgotten."""

ROOM = 2
"""Agents that are remembered, as a multiple of those online: names that come and go cost nothing
to make up, so those heard of longest ago have to make room."""

BLOCK = 1 << 20
"""Elements that are worked on at a time: 8 MiB in float64."""


class Rows(NamedTuple):
    """What is known of k agents."""

    names: Bytes
    """(k,), ascending."""
    last: Ints
    """(k,): the round in which each was heard of."""
    values: Values
    """Key -> (k, ...): a row for each."""

    def memory(self) -> dict[str, npt.NDArray[Any]]:
        """Return it as plain arrays."""
        return {"names": self.names, "last": self.last, **self.values}


def recall(memory: Memory, *keys: str) -> Rows:
    """Take these rows out of a memory; there are none in an empty one."""
    if "names" not in memory:
        return Rows(np.empty(0, "S1"), np.empty(0, np.int64), {})
    names, last = memory["names"].astype(np.bytes_), memory["last"].astype(np.int64)
    return Rows(names, last, {key: memory[key] for key in keys if key in memory})


def places(rows: Rows, names: Sequence[str]) -> Ints:
    """Say at which row each name stands, (n,); -1: nowhere."""
    wanted = encoded(names)
    if not len(rows.names):
        return np.full(len(wanted), -1)
    result = np.searchsorted(rows.names, wanted).clip(max=len(rows.names) - 1)
    return np.where(rows.names[result] == wanted, result, -1)


def aligned(
    rows: Rows, key: str, names: Sequence[str], unknown: float = 0.0, shape: tuple[int, ...] = ()
) -> Floats:
    """Return these names' rows in float64, (n, *shape); ``unknown`` for those without."""
    result = np.full((len(names), *shape), unknown)
    if key in rows.values:
        where = places(rows, names)
        result[where >= 0] = rows.values[key][where[where >= 0]]
    return result


def renewed(rows: Rows, names: Sequence[str], values: Values, now: int, online: int) -> Rows:
    """Replace the rows of these names, or add them, in round ``now``; forget who is long gone."""
    fresh = encoded(names)
    stay = np.flatnonzero(~np.isin(rows.names, fresh) & (rows.last > now - HORIZON))
    spare = max(0, ROOM * max(online, len(fresh)) - len(fresh))
    if len(stay) > spare:
        stay = np.sort(stay[np.argsort(-rows.last[stay], kind="stable")][:spare])
    if not len(stay):
        order, last = np.argsort(fresh), np.full(len(fresh), now)
        if np.array_equal(order, np.arange(len(order))):
            return Rows(fresh, last, values)  # many megabytes need not be copied
        return Rows(fresh[order], last, {key: new[order] for key, new in values.items()})
    together = np.concatenate([rows.names[stay], fresh])
    order = np.argsort(together)
    last = np.concatenate([rows.last[stay], np.full(len(fresh), now)])
    both = {key: np.concatenate([rows.values[key][stay], new]) for key, new in values.items()}
    return Rows(together[order], last[order], {key: value[order] for key, value in both.items()})


def encoded(names: Sequence[str]) -> Bytes:
    """Write names as bytes, (n,): an array of text could not be saved without pickling."""
    return np.array([name.encode() for name in names], dtype=np.bytes_)
