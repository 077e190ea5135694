"""The network between programs and broker stalls, breaks, or is slow."""

from __future__ import annotations

import time
from random import Random

from chaos.faults.broker import BRIEF, PACE, SILENCE
from chaos.faults.outcome import Fault, Outcome, Tally
from chaos.lab import Lab
from chaos.proxy import Proxy

ANSWERED = 8 * PACE
"""Seconds until all agents have sent their updates."""
RATE = 40_000.0
"""Bytes a second: a model of the lab takes a quarter of a second."""


def stalled(*who: str) -> Fault:
    """Forward nothing for longer than the keep-alive, for "aggregator", "agents" or both.

    Agents that are silent for so long are not called to the rounds that open meanwhile: the models
    need not be the same.
    """

    def fault(lab: Lab, random: Random, times: int) -> Outcome:
        tally = Tally()
        for _ in range(times):
            with Proxy(lab.broker.port) as one, Proxy(lab.broker.port) as other:
                named = {"aggregator": one, "agents": other}
                with lab.federation(BRIEF, (one.port, other.port)) as made:
                    made.start(pace=PACE)
                    made.reach(random.randint(1, 6))
                    time.sleep(random.uniform(0.0, PACE))
                    for proxy in map(named.__getitem__, who):
                        proxy.stall()
                    time.sleep(SILENCE)
                    for proxy in map(named.__getitem__, who):
                        proxy.flow()
                    alone = who == ("aggregator",)
                    tally.add(made.finish(), 1, lab.quiet() if alone else None)
        return tally.outcome()

    return fault


def cut(*who: str) -> Fault:
    """Break all connections of "aggregator", "agents" or both in the middle of a round."""

    def fault(lab: Lab, random: Random, times: int) -> Outcome:
        tally = Tally()
        for _ in range(times):
            with Proxy(lab.broker.port) as one, Proxy(lab.broker.port) as other:
                named = {"aggregator": one, "agents": other}
                with lab.federation(ports=(one.port, other.port)) as made:
                    made.start(pace=PACE)
                    made.reach(random.randint(1, 6))
                    time.sleep(random.uniform(0.0, PACE))
                    for name in who:
                        named[name].cut()
                    alone = who == ("aggregator",)
                    tally.add(made.finish(), 1, lab.quiet() if alone else None)
        return tally.outcome()

    return fault


def in_flight(*, broker: bool) -> Fault:
    """Lose what agents have sent, the broker has acknowledged, and the aggregator has not heard.

    ``broker``: by ``kill -9`` of the broker, and not by the aggregator's connection alone.
    """

    def fault(lab: Lab, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = lab.quiet()
        for _ in range(times):
            with Proxy(lab.broker.port) as proxy:
                with lab.federation(ports=(proxy.port, lab.broker.port)) as made:
                    made.start(pace=PACE)
                    made.reach(random.randint(1, 6))
                    time.sleep(random.uniform(0.0, PACE))
                    proxy.stall()
                    time.sleep(ANSWERED)
                    if broker:
                        lab.broker.kill()
                    proxy.cut()
                    if broker:
                        lab.broker.start()
                    proxy.flow()
                    tally.add(made.finish(), 1, quiet)
        return tally.outcome()

    return fault


def slow(lab: Lab, random: Random, times: int) -> Outcome:
    """Give every connection of the agents so little bandwidth that a round takes a second."""
    del random
    tally = Tally()
    for _ in range(times):
        with Proxy(lab.broker.port) as proxy:
            proxy.slow(RATE)
            with lab.federation(ports=(lab.broker.port, proxy.port)) as made:
                tally.add(made.start().finish(), 1, lab.quiet())
    return tally.outcome()
