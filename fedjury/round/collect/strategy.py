"""What a collect strategy is: the questions that a round asks it.

A strategy is a frozen value and remembers nothing; what has come is in the hands of the state.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Self, TypeVar

from fedjury.learning.contributions import Contributions
from fedjury.protocol.messages import Reason, Update


class Answer(Enum):
    """What to do with a collection at a point in time."""

    WAIT = "wait"
    """More may come."""
    SETTLE = "settle"
    """All that is missing was invalid: wait a moment for something better."""
    CLOSE = "close"
    """Go on with what there is, if it is enough."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a round asks for."""

    round: int
    version: int
    """Of the model to train from."""
    selected: frozenset[str]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection has got."""

    selected: int
    """How many agents were asked and have not declined."""
    answered: int
    """How many sent what counts."""
    invalid: int
    """Selected agents under whose name only something invalid came."""
    settled: float | None
    """Since when nobody is missing but those, in seconds of the round's clock."""


class Collected(Protocol):
    """The updates that have come: a value that others are made of."""

    @property
    def names(self) -> tuple[str, ...]:
        """The agents whose updates are in it, sorted."""

    def __len__(self) -> int:
        """Return how many updates there are."""

    def __contains__(self, name: object) -> bool:
        """Return whether there is one of this agent."""

    def add(self, update: Update) -> Self:
        """Return the same with an accepted update more."""


C = TypeVar("C", bound=Collected)


class CollectStrategy(Protocol[C]):
    """How contributions come together."""

    def begin(self, selected: Names[str]) -> C:
        """Return what a round begins with: nothing yet."""

    def refusal(self, update: Update, collected: C, request: Request) -> Reason | None:
        """Return why an update is not accepted; None if it is."""

    def awaited(self, selected: int) -> int:
        """Return how many answers the round waits for, where so many agents were selected."""

    def enough(self, progress: Progress, now: float, *, late: bool) -> Answer:
        """Return whether a collection is to be closed. ``late``: its deadline has passed."""

    def contributions(self, collected: C, request: Request) -> Contributions:
        """Return what the rule is given, in the order of the members' names."""
