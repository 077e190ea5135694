"""What a collect strategy is: the three questions that a round asks it."""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from fedjury.learning.contributions import Contributions
from fedjury.protocol.messages import Reason, Update
from fedjury.round.collect.update_buffer import UpdateBuffer


class Verdict(Enum):
    """What to do with a collection at a point in time."""

    WAIT = "wait"
    """More may come."""
    SETTLE = "settle"
    """All that is missing was invalid: wait a moment for something better."""
    CLOSE = "close"
    """Go on with what there is, if it is enough."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a collection has got."""

    selected: frozenset[str]
    answered: int
    """Selected agents that sent what counts."""
    invalid: int
    """Selected agents under whose name only something invalid came."""
    settled: float | None
    """Since when nobody is missing but those, in seconds of the round's clock."""


class CollectStrategy(Protocol):
    """How contributions come together."""

    def begin(self, selected: Names[str]) -> UpdateBuffer:
        """Return the empty buffer of a round."""

    def refusal(self, update: Update, buffer: UpdateBuffer, *, version: int) -> Reason | None:
        """Return why an update of a selected agent is not accepted; None if it is.

        ``version``: of the model to train from.
        """

    def enough(self, progress: Progress, now: float, *, late: bool) -> Verdict:
        """Return whether a collection is to be closed. ``late``: its deadline has passed."""

    def contributions(self, buffer: UpdateBuffer) -> Contributions:
        """Return what the rule is given, in the order of the members' names."""
