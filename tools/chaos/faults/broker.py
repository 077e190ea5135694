"""The broker dies, is paused, or cannot be reached."""

from __future__ import annotations

import time
from random import Random

from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.harness import PLAIN, Harness, Setup

PACE = 0.08
"""Seconds that agents take more to train, so that there is a middle of a round to hit."""
KEEPALIVE = 2
"""Seconds."""
BRIEF: Setup = PLAIN | {"broker.keepalive": KEEPALIVE}
"""Whoever is silent for three seconds is given up."""
SILENCE = 4.0
"""Seconds: longer than that."""


def killed(*, keep: bool, away: float = 0.0) -> Fault:
    """``kill -9`` in the middle of a round, back after ``away`` seconds.

    ``keep``: with what it retained.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet()
        for _ in range(times):
            with harness.federation() as result:
                result.start(pace=PACE)
                result.reach(random.randint(1, 6))
                time.sleep(random.uniform(0.0, PACE))
                harness.broker.kill(keep=keep)
                time.sleep(away)
                harness.broker.start()
                tally.add(result.finish(60.0 + 3 * away), 1, quiet)
        return tally.outcome()

    return fault


def again_and_again(harness: Harness, random: Random, times: int) -> Outcome:
    """Kill it several times in one run, at random moments."""
    tally = Tally()
    quiet = harness.quiet()
    with harness.federation() as result:
        result.start(pace=PACE)
        hit = 0
        while hit < times and result.aggregator.code is None:
            time.sleep(random.uniform(0.5, 1.5))
            harness.broker.kill(keep=random.random() < 0.5)
            harness.broker.start()
            hit += 1
        tally.add(result.finish(), hit, quiet)
    return tally.outcome()


def paused(harness: Harness, random: Random, times: int) -> Outcome:
    """Stop it for longer than the keep-alive: connections stand, and nobody answers."""
    tally = Tally()
    quiet = harness.quiet()
    for _ in range(times):
        with harness.federation(BRIEF) as result:
            result.start(pace=PACE)
            result.reach(random.randint(1, 6))
            time.sleep(random.uniform(0.0, PACE))
            harness.broker.pause()
            time.sleep(SILENCE)
            harness.broker.resume()
            tally.add(result.finish(), 1, quiet)
    return tally.outcome()
