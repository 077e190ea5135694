"""Calling agents by a number instead of by their names, of which there may be ten thousand.

A round's number puts each agent in one of 2^30 places, as if by chance; agents in the first so
many of them are called. So everybody can tell of itself whether it is, and nobody can choose a name
that is called, as the number is not known before.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

WHOLE = 2**30
"""Places of agents."""

DIGITS = 64
"""Hexadecimal digits of a number."""

WORDS = 3
"""Words of 32 bits that stand for a name."""

KNOWN = 1 << 17
"""Names whose words are kept, as they are asked for with each number."""

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
        return place_of(self.number, name) < self.share


class Roll(NamedTuple):
    """Names of which one asks for all the places, again and again."""

    names: tuple[str, ...]
    where: dict[str, int]
    """Where each of them stands."""
    words: npt.NDArray[np.uint64]
    """What stands for each, (3, n)."""

    @classmethod
    @lru_cache(maxsize=4)
    def of(cls, names: frozenset[str]) -> Roll:
        """Return the roll of these names."""
        there = tuple(names)
        words = np.frombuffer(b"".join(map(_words_of, there)), "<u4").reshape(-1, WORDS)
        where = {name: number for number, name in enumerate(there)}
        return cls(there, where, words.T.astype(np.uint64))

    def places(self, number: str) -> npt.NDArray[np.int64]:
        """Return the place of each of the names, from 0, (n,)."""
        first, *factors = np.frombuffer(bytes.fromhex(number), "<u8")
        total = np.full(len(self.names), first)
        for factor, words in zip(factors, self.words, strict=True):
            total += factor * words  # modulo 2^64
        return (total >> np.uint64(34)).astype(np.int64)


def place_of(number: str, name: str) -> int:
    """Return the place of a name, from 0: the first 30 of 64 bits of a multilinear hash.

    With a and b, c, d the number's four words of 64 bits and x, y, z the first three of 32 bits
    of SHA-256 of the name it is a + b x + c y + d z modulo 2^64. For a number that nobody could
    know before, each name is in any place as likely as in any other, wherever any other name is
    (Lemire and Kaser, 2014, "Strongly universal string hashing is fast").
    """
    first, *factors = struct.unpack("<4Q", bytes.fromhex(number))
    words = struct.unpack("<3I", _words_of(name))
    total = first + sum(factor * word for factor, word in zip(factors, words, strict=True))
    return int(total % 2**64 >> 34)


@lru_cache(maxsize=KNOWN)
def _words_of(name: str) -> bytes:
    return sha256(name.encode()).digest()[: 4 * WORDS]


@lru_cache(maxsize=4)  # agents that share a downlink ask several times in a round
def _called(call: Call, names: frozenset[str]) -> tuple[str, ...]:
    """Return those of these who are called by number, sorted."""
    roll = Roll.of(names)
    found = np.flatnonzero(roll.places(call.number) < call.share)
    return tuple(sorted({roll.names[i] for i in found}.difference(call.without)))


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
