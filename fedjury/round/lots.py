"""Calling many agents by a number: which number, who is drawn by it, and how that is said.

The number of a round is made of a key that the aggregator keeps to itself, with HMAC: from it
nothing follows about other rounds, or about those who are drawn for something else. The agents in
the lowest places by the round's number are called, exactly as many as the settings say. Who else
is called, or is not although its place is as low, is named: whoever is in quarantine, or waits to
be let in, forced attackers, and agents that have one place together.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection as Names
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.protocol.call import WHOLE, Call, Roll
from fedjury.randomness import Purpose, stream
from fedjury.round.state import RoundConfig


def number_of(part: str, round_: int, config: RoundConfig) -> str:
    """Return the number by which agents are called for something in a round."""
    key = config.call_key or stream(config.run.seed, Purpose.CALLS).bytes(32)
    return hmac.digest(key, b"%s/%d" % (part.encode(), round_), "sha256").hex()


class Called(NamedTuple):
    """Who is called, as agents are told it: some by name, the others by number."""

    names: tuple[str, ...]
    call: Call


@dataclass(frozen=True)
class Lots:
    """The places of agents by a number."""

    number: str
    roll: Roll
    place: npt.NDArray[np.int64]
    """Of each of its names, (n,)."""

    @classmethod
    @lru_cache(maxsize=3)  # drawn by it, and then told: once a round for each of the three parts
    def of(cls, agents: frozenset[str], number: str) -> Lots:
        """Give each of the agents its place."""
        roll = Roll.of(agents)
        return cls(number, roll, roll.places(number))

    def lowest(self, agents: Names[str], count: int, forced: Names[str] = ()) -> tuple[str, ...]:
        """Draw ``count`` of the agents, or all if there are fewer; sorted by name.

        Those of ``forced`` who are among the agents are drawn in any case.
        """
        sure = sorted(set(forced).intersection(agents))[:count]
        count -= len(sure)
        if count >= len(agents) - len(sure):
            return tuple(sorted(agents))
        if not count:
            return tuple(sure)
        others = self._those(agents)
        others[[self.roll.where[name] for name in sure]] = False
        last = np.partition(self.place[others], count - 1)[count - 1]
        drawn = self._named(others & (self.place < last))
        same = self._named(others & (self.place == last))
        return tuple(sorted([*drawn, *same[: count - len(drawn)], *sure]))

    def called(self, selected: Names[str]) -> Called:
        """Say who of the agents is selected, with the fewest names."""
        chosen = self._those(selected)
        share = _share(self.place, chosen)
        also = self._named(chosen & (self.place >= share))
        without = self._named(~chosen & (self.place < share))
        return Called(tuple(also), Call(self.number, share, len(selected), tuple(without)))

    def _those(self, names: Names[str]) -> npt.NDArray[np.bool_]:
        """Return which agents have these names, (n,)."""
        if len(names) == len(self.place):
            return np.ones(len(self.place), dtype=bool)
        there = np.zeros(len(self.place), dtype=bool)
        there[[self.roll.where[name] for name in names]] = True
        return there

    def _named(self, those: npt.NDArray[np.bool_]) -> list[str]:
        """Return their names, sorted."""
        return sorted(self.roll.names[i] for i in np.flatnonzero(those))


def _share(at: npt.NDArray[np.int64], chosen: npt.NDArray[np.bool_]) -> int:
    """Return how many places leave the fewest exceptions, of agents ``at`` these places."""
    order = np.argsort(at)
    ranked, picked = at[order], chosen[order]
    before = np.concatenate(([0], np.cumsum(~picked)))  # not selected, in a lower place
    behind = int(picked.sum()) - np.concatenate(([0], np.cumsum(picked)))
    cuts = np.flatnonzero(np.diff(ranked, prepend=-1, append=WHOLE))  # not between equal places
    best = int(cuts[np.argmin((before + behind)[cuts])])
    if best == len(ranked):
        return WHOLE
    return int(ranked[best - 1]) + 1 if best else 0
