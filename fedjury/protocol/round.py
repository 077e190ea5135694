"""What agents are told of a round: who is asked for what, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from fedjury.protocol.call import Call, Selection


class Phase(StrEnum):
    """What a round waits for."""

    TRAIN = "train"
    VALIDATE = "validate"
    VALIDATE_GROUPS = "validate_groups"
    """Validators judge the groups' candidates, before there is one of the round."""
    JUDGE_AND_TRAIN = "judge_and_train"
    """Piggy-back: contributors judge the candidate and train from it if it is clean."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Round:
    """Who is called, for what, and for how long (seconds)."""

    round: int
    attempt: int
    phase: Phase
    version: int
    contributors: Literal["all"] | tuple[str, ...]
    validators: tuple[str, ...]
    seconds: float
    evaluators: Literal["all"] | tuple[str, ...] = ()
    """Who measures the candidate while validators judge it."""
    groups: int = 0
    """How many groups' candidates there are to judge."""
    each: int = 0
    """How many of them each validator judges; 0: all (``groups_of``)."""
    calls: Mapping[str, Call] = field(default_factory=dict)
    """What else calls agents: one of the keys that name some -> who is called by number."""

    @property
    def trains(self) -> Selection:
        """Who is selected to train."""
        return Selection(self.contributors, self.calls.get("contributors"))

    @property
    def votes(self) -> Selection:
        """Who votes on the candidate."""
        return Selection(self.validators, self.calls.get("validators"))

    @property
    def measures(self) -> Selection:
        """Who measures the candidate."""
        return Selection(self.evaluators, self.calls.get("evaluators"))

    def groups_of(self, place: int) -> tuple[int, ...]:
        """Return which groups the validator in this place of ``validators`` judges, ascending."""
        return turn_of(place, self.groups, self.each)


def turn_of(place: int, groups: int, each: int) -> tuple[int, ...]:
    """Return which of so many groups the validator in this place judges, ascending.

    ``each``: how many it judges; 0: all. They take turns, so that as many validators judge each
    group, or one more.
    """
    if not 0 < each < groups:
        return tuple(range(groups))
    return tuple(sorted((place * each + i) % groups for i in range(each)))
