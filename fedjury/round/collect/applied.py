"""A collect strategy of somebody else's at work: what it answers is looked at first.

Where it fails the round is rejected, and the reason is in its record (``fedjury.round.machine``).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection as Names
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from fedjury.learning.arrays import NUMBERS
from fedjury.learning.contributions import Contributions
from fedjury.protocol.messages import Reason, Update
from fedjury.registry import COLLECT
from fedjury.registry.faults import PluginError, working
from fedjury.round.collect.strategy import Answer, Collected, CollectStrategy, Progress, Request

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class CheckedCollection:
    """What somebody else's strategy has collected."""

    name: str
    collected: Collected
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def add(self, update: Update) -> Self:
        """Return the same with an accepted update more; ``PluginError`` if that fails."""
        with working(COLLECT, self.name):
            collected = self.collected.add(update)
            names: object = tuple(collected.names)
        assert isinstance(names, tuple)
        if [*names] != sorted({*self.names, update.agent}):
            raise PluginError(
                f"collect strategy {self.name!r} has {len(names)} names after an update of "
                f"{update.agent!r}; it must have that and the {len(self.names)} before, sorted"
            )
        return type(self)(self.name, collected, names)


@dataclass(frozen=True)
class Checked:
    """Somebody else's strategy; each question fails in a sentence, a ``PluginError``."""

    name: str
    strategy: CollectStrategy[Any]

    def begin(self, selected: Names[str]) -> CheckedCollection:
        """Return what a round begins with: nothing yet."""
        collected = self._asked(lambda: self.strategy.begin(selected))
        for part in ("names", "add"):
            if not hasattr(collected, part):
                raise self._odd("begin", collected)
        return CheckedCollection(self.name, collected)

    def refusal(
        self, update: Update, collected: CheckedCollection, request: Request
    ) -> Reason | None:
        """Return why an update is not accepted; None if it is."""
        reason = self._asked(lambda: self.strategy.refusal(update, collected.collected, request))
        if reason is not None and not isinstance(reason, Reason):
            raise self._odd("refusal", reason)
        return reason

    def awaited(self, selected: int) -> int:
        """Return how many answers the round waits for, where so many agents were selected."""
        count = self._asked(lambda: self.strategy.awaited(selected))
        if not isinstance(count, int) or count < 0:
            raise self._odd("awaited", count)
        return count

    def enough(self, progress: Progress, now: float, *, late: bool) -> Answer:
        """Return whether a collection is to be closed."""
        answer = self._asked(lambda: self.strategy.enough(progress, now, late=late))
        if not isinstance(answer, Answer):
            raise self._odd("enough", answer)
        return answer

    def contributions(self, collected: CheckedCollection, request: Request) -> Contributions:
        """Return what the rule is given, in the order of the members' names."""
        made = self._asked(lambda: self.strategy.contributions(collected.collected, request))
        if not isinstance(made, Contributions):
            raise self._odd("contributions", made)
        if why := _misfit(made, collected):
            raise PluginError(f"collect strategy {self.name!r} made contributions {why}")
        return made

    def _asked(self, question: Callable[[], T]) -> T:
        with working(COLLECT, self.name):
            return question()

    def _odd(self, question: str, answer: object) -> PluginError:
        return PluginError(
            f"collect strategy {self.name!r} returned {answer!r:.60} from {question}, which is "
            "something else than a collect strategy's"
        )


def _misfit(made: Contributions, collected: CheckedCollection) -> str:
    """Return why the rule cannot be given these; empty if it can."""
    rows, weights = np.asarray(made.vectors), np.asarray(made.weights)
    if rows.dtype.kind not in NUMBERS or rows.ndim != 2 or weights.shape != (len(rows),):
        return f"of shape {rows.shape}, with weights of shape {weights.shape}"
    if len(made.offsets) != len(rows) + 1 or made.offsets[-1] != len(made.names):
        return f"of {len(rows)} rows, and says of {len(made.offsets)} where they begin and end"
    if strangers := {*made.names}.difference(collected.names):
        return f"of {min(strangers)!r}, which sent none"
    return ""
