"""Calling agents by a number instead of by their names, of which there may be ten thousand.

A round's number, with an agent's name behind it, puts the agent in one of 2^30 places, as if by
chance; agents in the first so many of them are called. So everybody can tell of itself whether it
is, and nobody can choose a name that is called, as the number is not known before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

WHOLE = 2**30
"""Places of agents."""

DIGITS = 64
"""Hexadecimal digits of a number."""

PARTS = ("contributors", "validators", "evaluators")
"""What agents are called for: the keys of a round under which they are named."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who is called beside those who are named: agents in the first ``share`` of 2^30 places."""

    number: str
    """32 bytes as lower-case hexadecimal digits."""
    share: int
    count: int
    """How many agents are called, those who are named among them."""
    without: tuple[str, ...] = ()
    """Agents in those places that are not called."""

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name in self.without:
            return False
        return bool(places(self.number, (name,))[0] < self.share)


def places(number: str, names: Iterable[str]) -> npt.NDArray[np.uint32]:
    """Return the place of each of these names, from 0: 30 bits of SHA-256 of number and name."""
    digits = bytes.fromhex(number)
    hashed = b"".join([sha256(digits + name.encode()).digest() for name in names])
    return np.frombuffer(hashed, ">u4")[::8] // np.uint32(4)


@lru_cache(maxsize=4)  # agents that share a downlink ask several times in a round
def _called(call: Call, names: frozenset[str]) -> tuple[str, ...]:
    """Return those of these who are called by number, sorted."""
    there = sorted(names.difference(call.without))
    found = np.flatnonzero(places(call.number, there) < call.share)
    return tuple(there[i] for i in found)


@dataclass(frozen=True, slots=True)
class Selection:
    """Who is asked for one thing in a round: all, or those who are named or called by number."""

    names: Literal["all"] | tuple[str, ...]
    call: Call | None = None

    def __contains__(self, name: object) -> bool:
        named = self.names == "all" or name in self.names
        return named or (self.call is not None and name in self.call)

    def among(self, agents: Collection[str]) -> Collection[str]:
        """Return those of these agents who are asked."""
        if self.names == "all":
            return agents
        named = [name for name in self.names if name in agents]
        if self.call is None:
            return named
        called = _called(self.call, frozenset(agents))
        return called if not named else [*named, *(n for n in called if n not in self.names)]

    def size(self, everybody: int) -> int:
        """Return how many are asked, of so many agents that there are."""
        if self.names == "all":
            return everybody
        return len(self.names) if self.call is None else self.call.count
