"""The aggregator dies, and is started again."""

from __future__ import annotations

import signal
import time
from random import Random

from tools.chaos.faults.outcome import Fault, Outcome, Tally, end
from tools.chaos.harness import PLAIN, Federation, Harness, Setup
from tools.chaos.programs import Trap

RUN = 0.4
"""Seconds that a run lasts, about, from the start of its programs."""
KILLS = 5
"""Times that one run is hit at the most."""


def at_random(setup: Setup) -> Fault:
    """Kill it again and again, whatever it does at that moment."""

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        while tally.injected < times:
            with harness.federation(setup) as result:
                result.start()
                kills = 0
                while kills < min(KILLS, times - tally.injected):
                    time.sleep(random.uniform(0.0, RUN))
                    if not result.aggregator.kill():
                        break
                    kills += 1
                    result.serve()
                tally.add(result.finish(), kills, harness.quiet(setup))
        return tally.outcome()

    return fault


def at_point(point: str, setup: Setup = PLAIN, last: bool = False, first: int = 2) -> Fault:
    """Kill it at one point (``tools.chaos.failpoints``) of the ``first`` round or a later one.

    ``last``: of the last round.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        rounds = harness.quiet(setup).settings.run.rounds
        for _ in range(times):
            number = rounds if last else random.randint(first, rounds - 2)
            if not tally_one(harness, tally, setup, (point, number)):
                return tally.outcome(f"it did not come to {point} of round {number}")
        return tally.outcome()

    return fault


def writing(harness: Harness, random: Random, times: int) -> Outcome:
    """Kill it at each of the moments at which something is made durable, one after the other."""
    tally = Tally()
    number = random.randint(1, 20)
    while tally.injected < times:
        if tally_one(harness, tally, PLAIN, ("syncing", number)):
            number += 1
        elif number == 1:
            break
        else:
            number = 1  # a run has only so many
    return tally.outcome()


def tally_one(harness: Harness, tally: Tally, setup: Setup, failpoint: Trap) -> bool:
    """Let it die in a trap, start it again, and count the run; False if it did not die there."""
    with harness.federation(setup) as result:
        result.start(failpoint)
        sprung = result.aggregator.wait(30.0) == -signal.SIGKILL
        if sprung:
            result.serve()
            tally.add(result.finish(), 1, harness.quiet(setup))
        return sprung


def ended(_: Harness, run: Federation, __: Random) -> str:
    """Ask it to end (SIGTERM), and start it again: it goes on."""
    wrong = end(run.aggregator)
    run.serve()
    return wrong
