"""The network between programs and broker stalls, breaks, or is slow."""

from __future__ import annotations

import time
from random import Random

from tools.chaos.faults.broker import BRIEF, SILENCE
from tools.chaos.faults.outcome import PACE, Fault, Outcome, Tally, mid_round
from tools.chaos.harness import Federation, Harness, Result

ANSWERED = 8 * PACE
"""Seconds until all agents have sent their updates."""

HERD = 20
"""Agents of the 32 that may come back within a tenth of a second: their pauses differ by half of
one."""
RATE = 40_000.0
"""Bytes a second: a model of the lab takes a quarter of a second."""


def stalled(*programs: str) -> Fault:
    """Forward nothing for longer than the keep-alive, for "aggregator", "agents" or both.

    Agents that are silent for so long are not called to the rounds that open meanwhile: the models
    need not be the same.
    """

    def stall(_: Harness, run: Federation, __: Random) -> None:
        for name in programs:
            run.proxies[name].stall()
        time.sleep(SILENCE)
        for name in programs:
            run.proxies[name].flow()

    return mid_round(stall, BRIEF, proxied=True, same="agents" not in programs)


def cut(*programs: str) -> Fault:
    """Break all connections of "aggregator", "agents" or both; the same holds of agents."""

    def break_all(_: Harness, run: Federation, __: Random) -> None:
        run.proxies["agents"].attempts.clear()
        for name in programs:
            run.proxies[name].cut()

    return mid_round(break_all, proxied=True, same="agents" not in programs, check=herd)


def herd(run: Federation, _: Result) -> str:
    """Say how many came back within a tenth of a second, if they were too many."""
    moments = run.proxies["agents"].attempts
    most = max((sum(0 <= b - a < 0.1 for b in moments) for a in moments), default=0)
    return f"{most} agents came back at once" if most > HERD else ""


def in_flight(*, broker: bool = False) -> Fault:
    """Lose what agents have sent, the broker has acknowledged, and the aggregator has not heard.

    ``broker``: by ``kill -9`` of the broker, and not by the aggregator's connection alone.
    """

    def lose(harness: Harness, run: Federation, _: Random) -> None:
        proxy = run.proxies["aggregator"]
        proxy.stall()
        time.sleep(ANSWERED)
        if broker:
            harness.broker.kill()
        proxy.cut()
        if broker:
            harness.broker.start()
        proxy.flow()

    return mid_round(lose, proxied=True)


def slow(harness: Harness, random: Random, times: int) -> Outcome:
    """Give every connection of the agents so little bandwidth that a round takes a second."""
    del random
    tally = Tally()
    for _ in range(times):
        with harness.federation(proxied=True) as run:
            run.proxies["agents"].slow(RATE)
            tally.add(run.start().finish(), 1, harness.quiet())
    return tally.outcome()
