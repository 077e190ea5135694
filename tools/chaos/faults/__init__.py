"""The faults by name: what is done, and how often."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tools.chaos.faults import (
    agents,
    aggregator,
    broker,
    cells,
    disk,
    load,
    moves,
    network,
    ray,
    secure,
)
from tools.chaos.faults.broker import BRIEF
from tools.chaos.faults.outcome import Fault, Outcome, mid_round
from tools.chaos.harness import DETECTION, ON_GROUPS, PIGGY_BACK, PLAIN, SECURE
from tools.chaos.ray_cluster import lack

__all__ = ["FAULTS", "Outcome", "Row"]


class Row(NamedTuple):
    """A fault: what people read of it, what does it, and how often."""

    what: str
    inject: Fault
    times: int = 5
    quick: int = 1
    """Times in the short version, that of the tests; 0: it has no part in that."""
    lack: Callable[[], str] = str
    """Why it cannot be injected here; empty if it can."""


at_random, at_point = aggregator.at_random, aggregator.at_point
at_each_step = secure.at_each_step
at_work = partial(mid_round, training=True)

FAULTS: dict[str, Row] = {
    # The aggregator dies.
    "random-kills": Row("aggregator killed at random moments", at_random(PLAIN), 150, 2),
    "random-kills-piggy-back": Row("the same with piggy-back", at_random(PIGGY_BACK), 50),
    "random-kills-groups": Row("the same with votes on groups", at_random(ON_GROUPS), 50),
    "random-kills-secure": Row("the same under masks", at_random(SECURE), 50),
    "random-kills-detection": Row("the same with quarantine", at_random(DETECTION), 50),
    "gathering": Row("killed before the first round", at_point("gathering")),
    "opening": Row("killed when a round has opened", at_point("opening")),
    "collecting": Row("killed when half of the updates are in", at_point("collecting")),
    "aggregating": Row("killed when it aggregates", at_point("aggregating")),
    "validating": Row("killed when it counts votes", at_point("validating")),
    "validating-groups": Row(
        "killed when it counts votes on groups", at_point("validating_groups", ON_GROUPS)
    ),
    "secure-keys": Row(
        "killed when half of a group's keys are in", at_point("secure-keys", SECURE)
    ),
    "secure-shares": Row("the same with their shares", at_point("secure-shares", SECURE)),
    "secure-updates": Row("the same with masked updates", at_point("secure-updates", SECURE)),
    "secure-asking": Row("killed before a sum is opened", at_point("secure-asking", SECURE)),
    "secure-unmask": Row("killed while it is opened", at_point("secure-unmask", SECURE)),
    "secure-counts": Row(
        "the same with what validators counted", at_point("secure-counts", SECURE, first=4)
    ),
    "unrecorded": Row("killed between model and record", at_point("unrecorded")),
    "unpublished": Row("killed between persist and publish", at_point("unpublished")),
    "unpublished-piggy-back": Row("the same with piggy-back", at_point("unpublished", PIGGY_BACK)),
    "unpublished-detection": Row("the same with quarantine", at_point("unpublished", DETECTION)),
    "published": Row("killed between publish and the next round", at_point("published")),
    "last": Row("killed with the last round on disk", at_point("unpublished", last=True)),
    "ending": Row("killed after the last round", at_point("ending", last=True)),
    "writing": Row("killed at each fsync", aggregator.writing, 40, 3),
    "aggregator-moves": Row(
        "its machine is cut off, its folder goes on elsewhere",
        mid_round(moves.moves, moves.LONG, proxied=True),
        10,
        0,  # test_vanished_machine.py
    ),
    "terminated": Row("aggregator ended with SIGTERM", mid_round(aggregator.ended)),
    # The broker dies.
    "broker-lost": Row("broker killed, retained messages lost", broker.killed(keep=False), 10),
    "broker-kept": Row("broker killed, retained messages kept", broker.killed(keep=True), 10),
    "broker-again": Row("broker killed again and again in a run", broker.again_and_again, 15, 0),
    "broker-away": Row("broker away for 5 s", broker.killed(keep=False, away=5.0), 3, 0),
    "broker-minute": Row("broker away for a minute", broker.killed(keep=False, away=60.0), 1, 0),
    "broker-paused": Row(
        "broker stopped beyond the keep-alive", mid_round(broker.paused, BRIEF), 3, 0
    ),
    # The network fails.
    "stall-aggregator": Row("network stalls: aggregator", network.stalled("aggregator"), 3),
    "stall-agents": Row("network stalls: agents", network.stalled("agents"), 3, 0),
    "stall-all": Row("network stalls: all", network.stalled("aggregator", "agents"), 3, 0),
    "cut-aggregator": Row("connections break: aggregator", network.cut("aggregator")),
    "cut-agents": Row("connections break: agents", network.cut("agents")),
    "cut-all": Row("connections break: all", network.cut("aggregator", "agents")),
    "in-flight": Row("the aggregator's breaks with answers under way", network.in_flight()),
    "in-flight-broker": Row("broker killed with answers under way", network.in_flight(broker=True)),
    "slow-network": Row("40 kB/s for each agent", network.slow, 2, 0),
    # Agents are in two cells. The short version has one moment of each.
    "cells": Row("two cells instead of one broker", cells.ROWS["quiet"], 3),
    "cell-killed": Row("broker of a cell killed", cells.ROWS["killed"], 10, 0),
    "cell-killed-training": Row("the same at work", cells.ROWS["killed-training"], 10),
    "cell-core": Row("broker of the core killed", cells.ROWS["core"], 10),
    "cell-core-training": Row("the same at work", cells.ROWS["core-training"], 10, 0),
    "cell-link": Row("link of a cell down for 12 s", cells.ROWS["link"], 5),
    "cell-slow": Row("link of a cell slow, 40 kB/s, for 6 s", cells.ROWS["slow"], 5),
    # They keep their updates.
    "cell-worker": Row("ingest worker of a cell killed", cells.ROWS["worker"], 10, 0),
    "cell-worker-training": Row("the same at work", cells.ROWS["worker-training"], 10),
    "cell-keeping-killed": Row("broker of such a cell killed", cells.ROWS["keeping-killed"], 10),
    "cell-keeping-core": Row("broker of the core killed", cells.ROWS["keeping-core"], 10),
    "cell-keeping-slow": Row("link of such a cell slow", cells.ROWS["keeping-slow"], 5, 0),
    "cell-gone": Row("broker of a cell gone for 22 s", cells.ROWS["gone"], 3, 0),
    # A cluster with Ray looks after them. That a machine dies is in test_ray_cluster.py.
    "ray-worker": Row("actor with worker and agents killed", ray.ROWS["worker"], 3, 0, lack),
    "ray-head": Row("head of Ray killed", ray.ROWS["head"], 3, 1, lack),
    "ray-machine": Row("one of three machines dies", ray.ROWS["machine"], 2, 0, lack),
    # Agents die, vanish, or are slow.
    "agents-restarted": Row("agents killed, started by hand", at_work(agents.restarted)),
    "agents-revived": Row("agents killed, started by spawn", at_work(agents.revived)),
    "agents-terminated": Row("agents ended with SIGTERM", at_work(agents.ended), 3),
    "half-gone": Row(
        "half of the agents gone permanently",
        mid_round(
            agents.gone,
            agents.HASTY,
            rounds=(1, 2),
            training=True,
            same=False,
            check=agents.once_missing,
            note=f"{agents.HALF} of {2 * agents.HALF} missing once, then {agents.HALF} called",
        ),
        2,
    ),
    "mute": Row("half of them never answer", agents.unanswering("mute", 0), 3),
    "slow-agents": Row(
        "half of them a thousand times slower",
        agents.unanswering("slow", agents.LATE, agents.TOO_LATE),
        3,
    ),
    # Somebody dies while updates are summed under masks, at each step in turns.
    "secure-broker": Row("broker killed under masks", at_each_step(secure.broker_killed), 9),
    "secure-agents": Row(
        "half of the agents killed under masks", at_each_step(secure.agents_killed), 9, 3
    ),
    "secure-all": Row("all killed at once under masks", at_each_step(secure.all_killed), 9, 0),
    # The disk fails.
    "disk-full": Row(
        "disk full when a round is written", mid_round(disk.full(), rounds=(2, 6)), 6, 2
    ),
    "checkpoint-cut": Row(
        "a checkpoint cut in half", mid_round(disk.cut_in_half, rounds=(2, 6), training=True)
    ),
    # There is too much.
    "flood": Row("20 clients send 100,000 messages of garbage", load.flood, 100_000, 3_000),
    "second-here": Row("a second aggregator on the same folder", mid_round(load.second_here), 3),
    "endurance": Row("10,000 rounds of four agents", load.endurance, 10_000, 0),
}
