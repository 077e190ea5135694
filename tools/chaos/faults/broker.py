"""The broker dies, is paused, or cannot be reached."""

from __future__ import annotations

import time
from random import Random

from tools.chaos.faults.outcome import PACE, Fault, Outcome, Tally, mid_round
from tools.chaos.harness import PLAIN, Federation, Harness, Setup

KEEPALIVE = 2
"""Seconds."""
BRIEF: Setup = PLAIN | {"broker.keepalive": KEEPALIVE}
"""Whoever is silent for three seconds is given up."""
SILENCE = 4.0
"""Seconds: longer than that."""


def killed(*, keep: bool, away: float = 0.0) -> Fault:
    """``kill -9``, back after ``away`` seconds; ``keep``: with what it retained."""

    def kill(harness: Harness, _: Federation, __: Random) -> None:
        harness.broker.kill(keep=keep)
        time.sleep(away)
        harness.broker.start()

    return mid_round(kill, seconds=60.0 + 3 * away)


def paused(harness: Harness, _: Federation, __: Random) -> None:
    """Stop it for longer than the keep-alive: connections stand, and nobody answers."""
    harness.broker.pause()
    time.sleep(SILENCE)
    harness.broker.resume()


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
