"""What tests share that run whole federations by the real programs: how to start and end them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from support import warm

from fedjury.aggregator.store import read_records
from fedjury.broker.local import local_broker
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.config.toml import to_toml

ROOT = Path(__file__).resolve().parents[2]
RUN = "net"
N = 60
ROUNDS = 6
KIND = "mosquitto" if find_mosquitto() else "embedded"
AGENTS = ["--n", str(N), "--evil", "0.2", "--data", "digits", "--samples", "20"]
AGGREGATOR = [
    "--config",
    "tools/benchmarks/w1.toml",  # one epoch of plain averaging, without a defence
    "--agents",
    str(N),
    "--rounds",
    str(ROUNDS),
    "--data",
    "digits",
    "--model",
    "mlp",
    "--clip",
    "1",
    "--validators",
    "5",
    "--quorum",
    "4",
    "--look-back",
    "2",
    "--set",
    "aggregation.server_lr=3",
    "--set",
    "collect.patience=60",
]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Programs:
    """The real programs as child processes, their output in files; none outlives the test."""

    def __init__(self, folder, address):
        self.folder, self.address = folder, address
        self.run = folder / RUN
        self._children = []

    def start(self, *command):
        """Start a program and return its process, with ``log`` for what it says."""
        log = self.folder / f"program-{len(self._children)}.log"
        with log.open("wb") as output:
            child = warm.Popen(
                [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=output
            )
        child.log = log
        self._children.append(child)
        return child

    def aggregator(self, *more):
        """Start the aggregator of the run."""
        where = ["--broker", f"{self.address.host}:{self.address.port}", "--run", RUN]
        flags = [*where, "--runs", str(self.folder), *AGGREGATOR, *more]
        return self.start("-m", "aggregator", *flags)

    def agents(self, *more):
        """Start agents of the run."""
        where = ["--broker", f"{self.address.host}:{self.address.port}", "--run", RUN]
        return self.start("agents/spawn.py", *where, *AGENTS, "--processes", "1", *more)

    def records(self):
        """Return what rounds.jsonl holds so far, whole lines only."""
        return read_records(self.run)

    def weights(self, version):
        """Return the bytes of an accepted model."""
        file = self.run / "models" / f"{version:06d}.safetensors"
        return load_file(file)["weights"].tobytes()

    def kill(self):
        """End what still runs, and the children of what was killed: they see it and leave."""
        for child in self._children:
            child.kill()
            child.wait()


def ended(*children, seconds=100):
    """Wait until programs have ended by themselves without an error."""
    for child in children:
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it still runs: {child.args}\n{child.log.read_text()}")
        assert code == 0, f"{child.args}\n{child.log.read_text()}"


def scenario(folder, settings):
    """Write settings into a file for both programs; the run begins once all agents are there."""
    all_there = settings.collect.replaced(agents=settings.expected)  # nobody waits for more
    file = folder / "scenario.toml"
    file.write_text(to_toml(settings.replaced(collect=all_there)), encoding="utf-8")
    return file


@contextlib.contextmanager
def federation(kind, folder):
    """Start a broker, and the programs on it as the caller wants."""
    with local_broker(kind, say=lambda _: None, log=folder / "broker.log") as address:
        programs = Programs(folder, address)
        try:
            yield programs
        finally:
            programs.kill()


def counted(records):
    """Add up the refusals of all rounds: reason -> count."""
    total = {}
    for record in records:
        for reason, count in record.traffic.invalid_messages.items():
            total[reason] = total.get(reason, 0) + count
    return total
