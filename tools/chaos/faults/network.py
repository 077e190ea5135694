"""The network between programs and broker stalls, breaks, or is slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tools.chaos.faults.broker import BRIEF, PACE, SILENCE
from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.harness import PLAIN, Federation, Harness, Setup
from tools.chaos.proxy import Proxy

ANSWERED = 8 * PACE
"""Seconds until all agents have sent their updates."""
Proxies = dict[str, Proxy]

HERD = 20
"""Agents of the 32 that may come back within a tenth of a second: their pauses differ by half of
one."""
RATE = 40_000.0
"""Bytes a second: a model of the lab takes a quarter of a second."""


@contextmanager
def between(harness: Harness, setup: Setup, random: Random) -> Iterator[tuple[Federation, Proxies]]:
    """Start a federation that goes through proxies, and wait for the middle of some round."""
    with (
        Proxy(harness.broker.port) as one,
        Proxy(harness.broker.port) as other,
        harness.federation(setup, (one.port, other.port)) as result,
    ):
        result.start(pace=PACE)
        result.reach(random.randint(1, 6))
        time.sleep(random.uniform(0.0, PACE))
        yield result, {"aggregator": one, "agents": other}


def stalled(*agents: str) -> Fault:
    """Forward nothing for longer than the keep-alive, for "aggregator", "agents" or both.

    Agents that are silent for so long are not called to the rounds that open meanwhile: the models
    need not be the same.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet() if "agents" not in agents else None
        for _ in range(times):
            with between(harness, BRIEF, random) as (result, proxies):
                for name in agents:
                    proxies[name].stall()
                time.sleep(SILENCE)
                for name in agents:
                    proxies[name].flow()
                tally.add(result.finish(), 1, quiet)
        return tally.outcome()

    return fault


def cut(*agents: str) -> Fault:
    """Break all connections of "aggregator", "agents" or both; the same holds of agents."""

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet() if "agents" not in agents else None
        for _ in range(times):
            with between(harness, PLAIN, random) as (built, proxies):
                began = time.monotonic()
                for name in agents:
                    proxies[name].cut()
                result = built.finish()
                most = at_once(proxies["agents"].attempts, began)
                herd = f"{most} agents came back at once" if most > HERD else ""
                tally.add(result, 1, quiet, herd)
        return tally.outcome()

    return fault


def at_once(attempts: list[float], since: float) -> int:
    """Count the most that came within a tenth of a second."""
    later = [moment for moment in attempts if moment > since]
    return max((sum(0 <= other - one < 0.1 for other in later) for one in later), default=0)


def in_flight(*, broker: bool = False) -> Fault:
    """Lose what agents have sent, the broker has acknowledged, and the aggregator has not heard.

    ``broker``: by ``kill -9`` of the broker, and not by the aggregator's connection alone.
    """

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet()
        for _ in range(times):
            with (
                Proxy(harness.broker.port) as proxy,
                harness.federation(ports=(proxy.port, harness.broker.port)) as result,
            ):
                result.start(pace=PACE)
                result.reach(random.randint(1, 6))
                time.sleep(random.uniform(0.0, PACE))
                proxy.stall()
                time.sleep(ANSWERED)
                if broker:
                    harness.broker.kill()
                proxy.cut()
                if broker:
                    harness.broker.start()
                proxy.flow()
                tally.add(result.finish(), 1, quiet)
        return tally.outcome()

    return fault


def slow(harness: Harness, random: Random, times: int) -> Outcome:
    """Give every connection of the agents so little bandwidth that a round takes a second."""
    del random
    tally = Tally()
    for _ in range(times):
        with Proxy(harness.broker.port) as proxy:
            proxy.slow(RATE)
            with harness.federation(ports=(harness.broker.port, proxy.port)) as result:
                tally.add(result.start().finish(), 1, harness.quiet())
    return tally.outcome()
