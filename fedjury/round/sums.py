"""Which sums of updates were opened over one model, so that no two overlap in part."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def free_and_kept(
    selected: Collection[str], sums: Sequence[OpenedSum]
) -> tuple[frozenset[str], list[tuple[str, ...]]]:
    """Return which selected agents may be drawn into groups, and the groups that stay together.

    An agent whose update is in a sum takes part only with just the same others again, all of whom
    are in it; who cannot sits out until there is another model.
    """
    free, kept = set(selected), []
    for one in sums:
        if one.members == one.survivors and free.issuperset(one.members):
            kept.append(one.members)
        free.difference_update(one.survivors)
    return frozenset(free), kept
