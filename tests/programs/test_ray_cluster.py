"""A cluster of three machines with Ray: rules on its workers, and a machine that dies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from fedjury.aggregator.store import read_records
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.cluster.folder import Folder
from tools.chaos.machines import Machines, lacking

ADDRESS = "10.77.0.1:6390"
AGENTS = 60
"""20 a machine."""

SMALL = [
    *(
        "--config",
        "tools/benchmarks/w1.toml",
        "--set",
        "data.name=digits",
        "--set",
        "model.name=mlp",
    ),
    *("--set", "agents.samples=20", "--set", "agents.processes=1", "--set", "collect.patience=60"),
    *("--set", "collect.seconds=5", "--rounds", "100000", "--evil", "0"),
]
"""A run that does not end by itself, and whose rounds wait five seconds for who is missing."""

SECONDS = 20
"""After which the work of a dead machine is done elsewhere."""


def lack():
    """Return why this cannot be tried here; empty if it can."""
    if find_spec("ray") is None:
        return "needs Ray (pip install 'fedjury[scale]')"
    return lacking() or ("" if find_mosquitto() else "needs mosquitto")


def wait_for(what, seconds, why):
    """Return what becomes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.1)
    return found


class Cluster:
    """The programs on three machines, and where their files are."""

    def __init__(self, machines, path):
        self.machines, self.path = machines, path
        self.folder = Folder(path / "cluster")

    def start(self):
        """Start the cluster, each machine with a cell."""
        kept = ["--keep-updates", "--set", "cells.seconds=8"]
        rule = ["--set", "aggregation.rule=median", "--set", "aggregation.partitions=16"]
        place = ["--host", "10.77.0.1", "--machines", "3", "--folder", str(self.folder.path)]
        runs = ["--run", "net", "--runs", str(self.path), "--agents", str(AGENTS)]
        self.up = self.fedjury(0, "up", "--cells", "3", *SMALL, *kept, *rule, *runs, *place)
        wait_for(self.folder.token.exists, 10, self.said)
        for number in (1, 2):  # one after the other: two at once do not always come up
            address = self.machines.addresses[number]
            token = ["--token", str(self.folder.token)]
            self.fedjury(number, "join", ADDRESS, "--host", address, *token)
            log = self.path / f"join-{number}.log"
            wait_for(lambda log=log: "takes part" in log.read_text(), 40, self.said)
        wait_for(lambda: self.places() == {*self.machines.addresses}, 30, self.said)

    def fedjury(self, number, *words):
        """Start a command of the cluster on a machine."""
        log = self.path / f"{words[0]}-{number}.log"
        command = [sys.executable, "-m", "fedjury", "cluster", *words]
        return self.machines.start(number, command, log)

    def places(self):
        """Return where fleets run; nothing before all do."""
        state = self.folder.read()
        fleets = state.fleets if state else ()
        running = fleets and all(line.state == "running" for line in fleets)
        return {line.machine for line in fleets} if running else set()

    def records(self):
        """Return the rounds so far."""
        return read_records(self.path / "net")

    def said(self):
        """Return what everybody said, for the message of a failed test."""
        logs = [*self.path.glob("*.log"), *self.folder.logs.glob("*.log")]
        return "\n".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in logs)


@pytest.fixture
def cluster(tmp_path):
    if why := lack():
        pytest.skip(why)
    with Machines(3) as machines:
        found = Cluster(machines, tmp_path)
        found.start()
        yield found


def rules_on(cluster):
    """Start the program whose workers are actors; returns it, and a function that hears it."""
    program = cluster.machines.start(
        0,
        [sys.executable, "-m", "support.ray_rules", cluster.folder.token, ADDRESS, "10.77.0.1"],
        cluster.path / "rules.log",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def heard():
        for line in program.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(cluster.said())

    return program, heard


def test_a_cluster_that_loses_a_machine(cluster):
    """Its rules have the bits of one process, and its work goes on elsewhere within 20 s."""
    rules, heard = rules_on(cluster)
    for workers in (1, 2, 4):
        found = heard()
        assert (found["workers"], found["differing"]) == (workers, [])
    workers = heard()["places"]
    dead = cluster.machines.addresses[2]
    on_it = [cell for cell, place in enumerate(workers) if place["machine"] == dead]
    assert on_it, workers

    cluster.machines.kill(2)
    begun, rounds = time.monotonic(), len(cluster.records())
    rules.stdin.write("dead\n")
    rules.stdin.flush()
    wait_for(lambda: cluster.places() == {*cluster.machines.addresses[:2]}, SECONDS, cluster.said)
    found = heard()
    assert found["again"]
    assert found["seconds"] < SECONDS
    assert found["lost"]
    assert set(found["lost"]) <= set(on_it)  # the next may be back by the time it is asked
    assert dead not in {place["machine"] for place in heard()["places"]}
    rules.kill()

    # Agents of the dead machine are back, and those of the others were never missing.
    def whole():
        return any(record.updates == AGENTS for record in cluster.records()[rounds + 1 :])

    wait_for(whole, SECONDS, cluster.said)
    assert time.monotonic() - begun < 2 * SECONDS
    others = [record.updates for record in cluster.records()[rounds:]]
    assert min(others) >= AGENTS * 2 // 3, others

    assert cluster.fedjury(0, "down", "--folder", str(cluster.folder.path)).wait(40) == 0
    assert cluster.up.wait(5) == 130  # as after Ctrl-C
    assert not cluster.machines.processes(0), cluster.said()
    assert cluster.folder.read() is None
