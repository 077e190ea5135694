"""What two bridged cells cost beside one broker: the same run of a jury, with the same models."""

from __future__ import annotations

import hashlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from safetensors.numpy import load_file

from fedjury import processes
from fedjury.aggregator.store import read_records
from fedjury.broker import cell_files
from fedjury.broker.cell_brokers import Place, Plan
from fedjury.broker.cell_files import CELL, CONFIGURATION, CORE
from fedjury.broker.local import HOST
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import free_port
from fedjury.protocol.topics import ROOT as TOPICS
from tools.benchmarks.figures import ROOT, Figure, ratios
from tools.benchmarks.network import WARM_UP
from tools.benchmarks.processes import cpu_seconds

AGENTS, ROUNDS = 200, 40
START = 12
"""The round in which fakes begin: validators have seen enough models by then to know one."""
CELLS = 2
JURY = "config/jury.toml"
PATIENCE = 10.0
"""Seconds in which a broker has to answer."""


class Run(NamedTuple):
    """What was seen of a run."""

    broker: float
    """Processor time of all brokers (s), from the first update to the last."""
    seconds: float
    """A round, the median."""
    models: str
    """All accepted models, in a word."""


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Run the same federation on one broker and in two cells, in turn."""
    one, two = [], []
    for number in range(1, repeats + 1):
        say(f"a jury on one broker and in two cells, {number} of {repeats}")
        one.append(run(0))
        two.append(run(CELLS))
    same = [float(a.models == b.models) for a, b in zip(one, two, strict=True)]
    sides = {"one broker": one, f"{CELLS} cells": two}
    updates = AGENTS * ROUNDS / 1000
    spent, least = ([each.broker for each in side] for side in (two, one))
    seconds, fastest = ([each.seconds for each in side] for side in (two, one))
    return [
        *(
            Figure(
                f"jury, {name}: brokers' processor time",
                [1e3 * each.broker / updates for each in side],
                "ms/1,000 updates",
            )
            for name, side in sides.items()
        ),
        *(
            Figure(f"jury, {name}: a round", [each.seconds for each in side], "s")
            for name, side in sides.items()
        ),
        ratios("jury, cells / one broker: processor time", spent, least, at_most=1.8),
        ratios("jury, cells / one broker: a round", seconds, fastest, at_most=2.5),
        Figure("jury, cells: the models of one broker, bit for bit", same, "", at_least=1.0),
    ]


def run(cells: int) -> Run:
    """Run a jury in so many cells, with a share of the agents each; 0: on one broker, all there."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # root's broker becomes another user
        places = [Place(HOST, free_port()) for _ in range(1 + cells)]
        core, *edges = places
        cell_files.write(Plan(core, tuple(edges), TOPICS), folder / "cells", None)
        names = [CORE, *(CELL.format(number) for number in range(1, cells + 1))]
        brokers = [
            stack.enter_context(running_broker(folder / "cells" / each, place))
            for each, place in zip(names, places, strict=True)
        ]
        flags = ["--config", JURY, "--run", "bench", "--set", "agents.malicious=0.2"]
        flags += ["--set", f"agents.start={START}"]
        serving = ["-m", "aggregator", *flags, "--agents", str(AGENTS), "--rounds", str(ROUNDS)]
        aggregator = start(folder, core, [*serving, "--runs", name, "--no-report"])
        fleets = []
        for shard in range(1, CELLS + 1):
            place = edges[shard - 1] if edges else core
            fleet = ["agents/spawn.py", *flags, "--n", str(AGENTS), "--processes", "1"]
            fleets.append(start(folder, place, [*fleet, "--shard", f"{shard}/{CELLS}"]))
            stack.callback(processes.stop, fleets[-1])
        file = folder / "bench" / "rounds.jsonl"
        while aggregator.poll() is None and not file.exists():
            time.sleep(0.02)
        before = sum(cpu_seconds(each.pid) for each in brokers)
        if aggregator.wait():
            sys.exit(f"the federation failed: {(folder / 'programs.log').read_text()[-2000:]}")
        spent = sum(cpu_seconds(each.pid) for each in brokers) - before
        records = read_records(folder / "bench")
        seconds = [record.timing.seconds or 0.0 for record in records[WARM_UP:]]
        models = hashlib.sha256()
        for model in sorted((folder / "bench" / "models").glob("*.safetensors")):
            models.update(load_file(model)["weights"].tobytes())
        return Run(spent, statistics.median(seconds), models.hexdigest())


@contextmanager
def running_broker(folder: Path, place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """Run a broker in its folder."""
    folder.chmod(0o755)
    (folder / CONFIGURATION).chmod(0o644)
    command = [str(find_mosquitto()), "-c", CONFIGURATION]
    child = processes.start(command, folder / "log", folder, None)
    try:
        until = time.monotonic() + PATIENCE
        while not answers(*place):
            if child.poll() is not None or time.monotonic() > until:
                sys.exit(f"a broker does not start: {(folder / 'log').read_text()}")
            time.sleep(0.02)
        yield child
    finally:
        processes.stop(child)


def start(folder: Path, place: Place, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start one of the programs at a broker."""
    with (folder / "programs.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments, "--broker", str(place)], cwd=ROOT, stdout=log, stderr=log
        )
