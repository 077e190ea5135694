"""Faults that hit run after run, each in the middle of one of its rounds."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from random import Random

from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.harness import BOUND, PLAIN, Federation, Harness, Result, Setup
from tools.chaos.programs import Child

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
    same: bool = True,
    seconds: float = BOUND,
    check: Callable[[Federation, Result], str] = lambda *_: "",
    note: str = "",
) -> Fault:
    """Do something to a run after one of some rounds, at once or while all agents are ``training``.

    ``same``: every accepted model has to be that of the undisturbed run. ``seconds``: in which it
    has to end. ``check``: says what is wrong with what became of it, or nothing.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet(setup) if same else None
        for _ in range(times):
            with harness.federation(setup, proxied=proxied) as run:
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
