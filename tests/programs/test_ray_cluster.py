"""A cluster of three machines with Ray: rules on its workers, and a machine that dies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fedjury.aggregator.store import read_records
from fedjury.cluster import environment, ray_nodes, supervise
from fedjury.cluster.folder import Folder
from tools.chaos.machines import Machines
from tools.chaos.ray_cluster import lack

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
        wait_for(self.folder.token.exists, 40, self.said)
        for number in (1, 2):  # one after the other: two at once do not always come up
            address = self.machines.addresses[number]
            token = ["--token", str(self.folder.token)]
            self.fedjury(number, "join", ADDRESS, "--host", address, *token)
            log = self.path / f"join-{number}.log"
            wait_for(lambda log=log: "takes part" in log.read_text(), 60, self.said)
        wait_for(lambda: self.places() == {*self.machines.addresses}, 60, self.said)

    def fedjury(self, number, *words):
        """Start a command of the cluster on a machine."""
        log = self.path / f"{words[0]}-{number}.log"
        command = [sys.executable, "-m", "fedjury", "cluster", *words]
        return self.machines.start(number, command, log)

    def places(self):
        """Return where fleets run; nothing before all do."""
        fleets, _ = supervise.read(self.folder)
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


@pytest.fixture
def rays(tmp_path):
    """Start Ray, and nothing else, on three machines; the program of the rules beside the last."""
    if why := lack():
        pytest.skip(why)
    token = tmp_path / "token"
    environment.new_token(token)
    with Machines(3) as machines, TemporaryDirectory(prefix="fjr-") as own:
        rules = None
        for number, host in enumerate(machines.addresses):
            folder, log = Path(own) / f"{number}", tmp_path / f"ray-{number}.log"
            node = ray_nodes.node(host, ADDRESS, folder, {"num_cpus": 2})
            head = ray_nodes.head(host, 6390, folder, {"num_cpus": 2})
            given = [f"{name}={value}" for name, value in environment.settings(token).items()]
            machines.start(number, ["env", *given, *(node if number else head)], log)
            wait_for(lambda log=log: ray_nodes.started(log.read_bytes()), 60, log.read_text)
            if number == 0:  # it takes as long to begin as the other machines
                rules = rules_on(machines, token, tmp_path / "rules.log")
        yield machines, *rules
        rules[0].kill()


def rules_on(machines, token, log):
    """Start the program whose workers are actors; returns it, and a function that hears it."""
    program = machines.start(
        0,
        [sys.executable, "-m", "support.ray_rules", token, ADDRESS, machines.addresses[0]],
        log,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def heard():
        for line in program.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(log.read_text()[-3000:])

    return program, heard


def test_rules_on_machines_of_which_one_dies(rays):
    """They have the bits of one process, and again within 20 s, on workers that are elsewhere."""
    machines, rules, heard = rays
    for workers in (1, 2, 4):
        found = heard()
        assert (found["workers"], found["differing"]) == (workers, [])
    places, dead = heard()["places"], machines.addresses[2]
    on_it = [cell for cell, place in enumerate(places) if place["machine"] == dead]
    assert on_it, places

    machines.kill(2)
    rules.stdin.write("dead\n")
    rules.stdin.flush()
    found = heard()
    assert found["again"]
    assert found["seconds"] < SECONDS
    assert found["lost"]
    assert set(found["lost"]) <= set(on_it)  # the next may be back by the time it is asked
    assert dead not in {place["machine"] for place in heard()["places"]}


@pytest.mark.chaos
def test_a_cluster_that_loses_a_machine(cluster):
    """Its work goes on elsewhere within 20 s, and nobody else is missing; then all of it ends."""
    cluster.machines.kill(2)
    rounds = len(cluster.records())
    wait_for(lambda: cluster.places() == {*cluster.machines.addresses[:2]}, SECONDS, cluster.said)

    # Agents of the dead machine are back, and those of the others were never missing.
    def whole():
        return any(record.updates == AGENTS for record in cluster.records()[rounds + 1 :])

    wait_for(whole, SECONDS, cluster.said)
    others = [record.updates for record in cluster.records()[rounds:]]
    assert min(others) >= AGENTS * 2 // 3, others

    assert cluster.fedjury(0, "down", "--folder", str(cluster.folder.path)).wait(40) == 0
    assert cluster.up.wait(5) == 130  # as after Ctrl-C
    assert not cluster.machines.processes(0), cluster.said()
    assert cluster.folder.read() is None
