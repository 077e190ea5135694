"""The agents are in cells on a cluster with Ray, and what holds it dies."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from fedjury.config.settings import load
from tools.chaos.faults.outcome import Fault, Outcome, Tally
from tools.chaos.harness import PLAIN, Harness, Setup
from tools.chaos.machines import Machines
from tools.chaos.ray_cluster import RayCluster

SETUP: Setup = PLAIN | {
    "run.rounds": 12,
    "aggregation.rule": "median",
    "aggregation.clip": 0.0,
    "aggregation.server_lr": 1.0,
    "aggregation.partitions": 16,
    "collect.seconds": 60.0,
    "collect.patience": 60.0,
    "validation.seconds": 60.0,
    "cells.seconds": 60.0,
}
"""A rule that works on the workers of cells; rounds wait until what has died is back."""

SECONDS = 120.0
"""In which a run must have ended after what it lost."""

PAUSE = 0.4
"""Seconds of a round, at a random moment of which something dies."""

HEAD = "gcs_server"
"""What Ray calls the process that knows of all others."""

Hurt = Callable[[RayCluster, Random, int], None]
"""The last is how often it has been done before."""


def killed(hurt: Hurt, machines: int, cells: int) -> Fault:
    """Let something die in a run on so many machines; it must come to the models of one broker."""

    def fault(harness: Harness, random: Random, times: int) -> Outcome:
        tally = Tally()
        quiet = harness.quiet(SETUP)
        for turn in range(times):
            path = Path(tempfile.mkdtemp(prefix="cluster-", dir=harness.folder))
            settings = load(overrides=SETUP | {"run.name": "cluster"})
            with Machines(machines) as network:
                cluster = RayCluster(network, path, settings, cells)
                cluster.start()
                cluster.reach(random.randint(1, 6))
                time.sleep(random.uniform(0.0, PAUSE))
                hurt(cluster, random, turn)
                result = cluster.finish(SECONDS)
            tally.add(result, 1, quiet)
            shutil.rmtree(path)
        return tally.outcome()

    return fault


def kill(*processes: int) -> None:
    """``kill -9``."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def worker_killed(cluster: RayCluster, random: Random, _: int) -> None:
    """Kill the actor of a cell, with which its agents and their broker die."""
    kill(cluster.worker(random.choice(cluster.fleets())))


def head_killed(cluster: RayCluster, _: Random, turn: int) -> None:
    """Kill the head of Ray itself, the program that started it, or all there is of it."""
    there = cluster.head()
    itself = [process for process in there if process.name == HEAD]
    kill(*(process.pid for process in (itself, there[:1], there)[turn % 3]))


def machine_killed(cluster: RayCluster, random: Random, _: int) -> None:
    """Pull the cable of a machine that is not the first, and kill all that runs there."""
    cluster.machines.kill(random.randrange(1, len(cluster.machines.names)))


ROWS: dict[str, Fault] = {
    "worker": killed(worker_killed, 1, 2),
    "head": killed(head_killed, 1, 2),
    "machine": killed(machine_killed, 3, 3),
}
