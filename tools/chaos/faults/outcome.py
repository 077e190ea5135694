"""What a fault did, and how it is counted."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tools.chaos.harness import Harness, Result


class Outcome(NamedTuple):
    """One row of the table."""

    injected: int
    survived: int
    lost: int
    """Updates and votes that were asked for and did not count, and what the broker dropped."""
    identical: bool | None
    """Whether every accepted model was that of the undisturbed run; None: it need not be."""
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether all that has to hold did."""
        return 0 < self.injected == self.survived and self.identical is not False


Fault = Callable[[Harness, Random, int], Outcome]
"""(where, random moments, how often) -> what came of it."""


class Tally:
    """Adds up runs."""

    def __init__(self) -> None:
        self.injected = self.survived = self.lost = 0
        self.identical: bool | None = None
        self.note = ""

    def add(
        self, result: Result, injected: int = 1, quiet: Result | None = None, wrong: str = ""
    ) -> None:
        """Count a run that was disturbed so many times.

        ``quiet``: what it has to be bit for bit. ``wrong``: what else went wrong, if anything did.
        """
        self.injected += injected
        self.lost += result.lost
        if not result.survived:
            wrong = wrong or _why(result)
        elif not wrong:
            self.survived += injected
        if quiet is not None:
            differs = result.against(quiet)
            self.identical = self.identical is not False and not differs
            wrong = wrong or differs
        self.note = self.note or wrong

    def outcome(self, note: str = "") -> Outcome:
        """Make a row of it; the first thing that went wrong says more than any note."""
        return Outcome(self.injected, self.survived, self.lost, self.identical, self.note or note)


def _why(result: Result) -> str:
    done = len(result.records)
    end = "was still running" if result.code is None else f"ended with {result.code}"
    if result.code == 0 and done == result.settings.run.rounds:
        return f"the agents did not end by themselves: {result.agents}"
    return f"after round {done} of {result.settings.run.rounds} it {end}: {result.last_words}"
