"""Which sums of updates were opened over one model, so that no two overlap in part."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class OpenedSum(NamedTuple):
    """A sum that agents were asked to open."""

    members: tuple[str, ...]
    """Who took part in its protocol, sorted."""
    survivors: tuple[str, ...]
    """Whose updates are in it, sorted."""


KEPT = 6
"""Base models whose sums are known: with piggy-back that of a round before may be trained again,
and candidates on which validators count stand between."""


@dataclass(frozen=True, slots=True)
class OpenedSums:
    """The sums over the last base models, and which attempt opened the last of them."""

    round: int = 0
    attempt: int = 0
    bases: tuple[tuple[bytes, tuple[OpenedSum, ...]], ...] = ()
    """What stands for each model from which updates were trained, oldest first, and its sums."""

    def over(self, base: bytes) -> tuple[OpenedSum, ...]:
        """Return the sums over a model: an update of nobody may be in another one."""
        return dict(self.bases).get(base, ())

    def with_sum(self, round_: int, attempt: int, base: bytes, one: OpenedSum) -> OpenedSums:
        """Return them with one more; a sum that is opened once more is the same."""
        before = self.over(base)
        known = before if one in before else (*before, one)
        others = tuple(entry for entry in self.bases if entry[0] != base)
        return OpenedSums(round_, attempt, (*others, (base, known))[-KEPT:])


NO_SUMS = OpenedSums()

Draw = Callable[[Collection[str]], Sequence[tuple[str, ...]]]
"""Draws agents into groups; returns the names of each, sorted."""


def groups_of(
    selected: Collection[str], sums: Sequence[OpenedSum], draw: Draw
) -> list[tuple[str, ...]]:
    """Return the groups of the selected agents, as far as these may take part; sorted.

    An agent whose update is in a sum takes part only with just the same others again, all of whom
    are in it; who cannot sits out until there is another model. Another attempt at a round draws
    the same groups again.
    """
    if not sums:
        return sorted(draw(selected))
    whole = [one.members for one in sums if one.members == one.survivors]
    busy = {name for one in sums for name in one.survivors}
    again = draw(selected)
    if all(group in whole or busy.isdisjoint(group) for group in again):
        return sorted(again)
    kept = [members for members in whole if {*members} <= {*selected}]
    free = {*selected}.difference(busy)
    return sorted([*kept, *(draw(free) if free else ())])
