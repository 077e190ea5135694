"""Which sums of updates were opened, over one model or in a whole run: no two overlap in part."""

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
    ever: tuple[OpenedSum, ...] = ()
    """Those of the whole run, each once, where groups stay together."""

    def over(self, base: bytes) -> tuple[OpenedSum, ...]:
        """Return the sums over a model: an update of nobody may be in another one."""
        return dict(self.bases).get(base, ())

    def with_sum(
        self, round_: int, attempt: int, base: bytes, one: OpenedSum, *, stays: bool = False
    ) -> OpenedSums:
        """Return them with one more; a sum that is opened once more is the same.

        ``stays``: whether its members are to stay together over the whole run.
        """
        before = self.over(base)
        known = before if one in before else (*before, one)
        others = tuple(entry for entry in self.bases if entry[0] != base)
        ever = self.ever if one in self.ever or not stays else (*self.ever, one)
        return OpenedSums(round_, attempt, (*others, (base, known))[-KEPT:], ever)


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
    whole, busy = _whole(sums), _busy(sums)
    again = draw(selected)
    if all(group in whole or busy.isdisjoint(group) for group in again):
        return sorted(again)
    kept = [members for members in whole if {*members} <= {*selected}]
    free = {*selected}.difference(busy)
    return sorted([*kept, *(draw(free) if free else ())])


class FixedGroups(NamedTuple):
    """Groups that stay together, as far as their members are there."""

    whole: list[tuple[str, ...]]
    """Those that can be summed, sorted: the same as before, and new ones of the others."""
    apart: list[tuple[str, ...]]
    """Those of which somebody is missing, so that the rest sits out."""


def fixed_groups(
    there: Collection[str], sums: Sequence[OpenedSum], size: int, draw: Draw
) -> FixedGroups:
    """Return the groups of those who are there, where they stay together over a run.

    ``sums``: those that were ever opened. Whose update was in one takes part only with just the
    same others, all of them. The others, also who comes late, are drawn into groups as soon as
    there are ``size`` of them.
    """
    names, whole = {*there}, _whole(sums)
    free = names - _busy(sums)
    new = draw(free) if len(free) >= size else ()
    return FixedGroups(
        sorted([*(group for group in whole if names.issuperset(group)), *new]),
        sorted(group for group in whole if not names.issuperset(group)),
    )


def _whole(sums: Sequence[OpenedSum]) -> list[tuple[str, ...]]:
    """Return the members of the sums in which nobody is missing, each once."""
    return list(dict.fromkeys(one.members for one in sums if one.members == one.survivors))


def _busy(sums: Sequence[OpenedSum]) -> set[str]:
    """Return whose updates are in a sum."""
    return {name for one in sums for name in one.survivors}
