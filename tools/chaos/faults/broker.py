"""The broker dies, is paused, or cannot be reached."""

from __future__ import annotations

import time
from random import Random

from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.lab import PLAIN, Lab, Setup

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

    def fault(lab: Lab, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = lab.quiet()
        for _ in range(times):
            with lab.federation() as made:
                made.start(pace=PACE)
                made.reach(random.randint(1, 6))
                time.sleep(random.uniform(0.0, PACE))
                lab.broker.kill(keep=keep)
                time.sleep(away)
                lab.broker.start()
                tally.add(made.finish(60.0 + 3 * away), 1, quiet)
        return tally.outcome()

    return fault


def again_and_again(lab: Lab, random: Random, times: int) -> Outcome:
    """Kill it several times in one run, at random moments."""
    tally = Tally()
    quiet = lab.quiet()
    with lab.federation() as made:
        made.start(pace=PACE)
        hit = 0
        while hit < times and made.aggregator.code is None:
            time.sleep(random.uniform(0.5, 1.5))
            lab.broker.kill(keep=random.random() < 0.5)
            lab.broker.start()
            hit += 1
        tally.add(made.finish(), hit, quiet)
    return tally.outcome()


def paused(lab: Lab, random: Random, times: int) -> Outcome:
    """Stop it for longer than the keep-alive: connections stand, and nobody answers."""
    tally = Tally()
    quiet = lab.quiet()
    for _ in range(times):
        with lab.federation(BRIEF) as made:
            made.start(pace=PACE)
            made.reach(random.randint(1, 6))
            time.sleep(random.uniform(0.0, PACE))
            lab.broker.pause()
            time.sleep(SILENCE)
            lab.broker.resume()
            tally.add(made.finish(), 1, quiet)
    return tally.outcome()
