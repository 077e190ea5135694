"""What a fault did, how it is counted, and the loop of those that hit a run in mid-round."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tools.chaos.harness import BOUND, PLAIN, Federation, Harness, Result, Setup
from tools.chaos.programs import Child


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
        wrong = wrong or result.wrong_sums
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


PACE = 0.08
"""Seconds that agents take more to train, so that there is a middle of a round to hit."""

Hurt = Callable[[Harness, Federation, Random], str | None]
"""What is done to a run; says what went wrong, or nothing."""


def mid_round(
    hurt: Hurt,
    setup: Setup = PLAIN,
    *,
    rounds: tuple[int, int] = (1, 6),
    training: bool = False,
    proxied: bool = False,
    cells: bool = False,
    same: bool = True,
    seconds: float = BOUND,
    check: Callable[[Federation, Result], str] = lambda *_: "",
    note: str = "",
) -> Fault:
    """Do something to a run after one of some rounds, at once or while all agents are ``training``.

    ``cells``: each shard of agents is in a cell. ``same``: every accepted model has to be that of
    the undisturbed run, on one broker. ``seconds``: in which it has to end. ``check``: says what is
    wrong with what became of it, or nothing.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet(setup) if same else None
        for _ in range(times):
            with harness.federation(setup, proxied=proxied, cells=cells) as run:
                run.start(pace=PACE)
                (run.train if training else run.reach)(random.randint(*rounds))
                time.sleep(random.uniform(0.0, PACE / 2 if training else PACE))
                wrong = hurt(harness, run, random)
                result = run.finish(seconds)
                tally.add(result, 1, quiet, wrong or check(run, result))
        return tally.outcome(note)

    return fault


def end(child: Child) -> str:
    """Ask a program to end (SIGTERM); says what is wrong if it does not so within five seconds."""
    child.signal(signal.SIGTERM)
    code = child.wait(5.0)
    child.kill_all()
    return "" if code == 130 else f"asked to end, it ended with {code} after 5 s"
