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


@dataclass(frozen=True, slots=True)
class OpenedSums:
    """The sums over one base model, and which attempt has begun."""

    round: int = 0
    attempt: int = 0
    base: bytes = b""
    """What stands for the model from which the updates were trained."""
    sums: tuple[OpenedSum, ...] = ()

    def over(self, base: bytes) -> tuple[OpenedSum, ...]:
        """Return the sums over a model: an update of nobody may be in another one."""
        return self.sums if base == self.base else ()


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
