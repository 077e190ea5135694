"""100,000 agents in eight cells that keep their updates, beside a thousand on one broker.

Each cell is a machine of its own: a network namespace with a broker, an ingest worker, and a
process of 12,500 agents that share a downlink. Processor time is that of all programs together.
What agents cost that nobody calls, their keep-alive, is measured while the aggregator is stopped,
and said apart, and so is connecting.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fedjury import processes
from fedjury.aggregator.store import read_records
from fedjury.broker import cell_files
from fedjury.broker.cell_brokers import Place, Plan
from fedjury.broker.cell_files import CELL, CONFIGURATION, CORE
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.protocol.topics import ROOT as TOPICS
from tools.benchmarks.figures import Figure
from tools.benchmarks.network import W1
from tools.benchmarks.processes import cpu_seconds, family, pss
from tools.chaos.machines import Machines, lacking

CELLS, AGENTS = 8, 100_000
FEW = 1_000
PORT = 1883
IDLE = 30.0
"""Seconds for which the aggregator is stopped: less than brokers bear."""
CALM = 3.0
"""Seconds over which it is seen whether agents are still at work."""
PATIENCE = 900.0


class Load(NamedTuple):
    """What agents train, and for how long they are watched."""

    name: str
    flags: Sequence[str]
    """Of all programs."""
    share: float
    """Of 100,000 agents, who is called in a round. Of a thousand all are."""
    warm_up: int
    rounds: int


LOADS = (
    Load("13,106 parameters, 1 % called", ("--config", W1), 0.01, 3, 20),
    Load(
        "650 parameters, all called",
        (
            *("--config", W1, "--data", "digits"),
            *("--set", "model.name=tools.benchmarks.logistic:logistic"),
            *("--set", "collect.seconds=600"),
        ),
        1.0,
        1,
        2,
    ),
)


class Cost(NamedTuple):
    """What a federation was seen to cost."""

    connecting: float
    """Processor time of connecting, of an agent (ms), the programs' own start included."""
    update: float
    """Of an update (ms), without keep-alive."""
    idle: float
    """Of an agent that nobody calls (ms an hour)."""
    memory: float
    """Of all programs together (GB)."""
    lost: float
    """Updates that were asked for and did not come."""
    seconds: float
    """A round."""


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure both, in turn, with each load."""
    if why := lacking():
        sys.exit(f"many-cells {why}")
    figures = []
    for load in LOADS:
        few, many = [], []
        for number in range(1, repeats + 1):
            say(f"{load.name}: {FEW:,} agents on one broker, {number} of {repeats}")
            few.append(federation(0, FEW, load._replace(share=1.0, warm_up=3, rounds=20)))
            say(f"{load.name}: {AGENTS:,} agents in {CELLS} cells, {number} of {repeats}")
            many.append(federation(CELLS, AGENTS, load))
        figures += compared(load.name, few, many)
    return figures


def compared(load: str, few: Sequence[Cost], many: Sequence[Cost]) -> list[Figure]:
    """Return what both have cost with a load."""
    figures = []
    for agents, costs in ((FEW, few), (AGENTS, many)):
        name = f"{load}: {agents:,} agents"
        figures += [
            Figure(f"{name}: an update, without keep-alive", [c.update for c in costs], "ms"),
            Figure(f"{name}: connecting, an agent", [c.connecting for c in costs], "ms"),
            Figure(f"{name}: keep-alive, an agent", [c.idle for c in costs], "ms/hour"),
            Figure(f"{name}: a round", [c.seconds for c in costs], "s"),
            Figure(f"{name}: updates that did not come", [c.lost for c in costs], ""),
            Figure(f"{name}: memory of all programs", [c.memory for c in costs], "GB", at_most=20),
        ]
    ratio = [b.update / a.update for a, b in zip(few, many, strict=True)]
    return [*figures, Figure(f"{load}: {AGENTS:,} / {FEW:,} agents: an update", ratio, at_most=1.1)]


def federation(cells: int, agents: int, load: Load) -> Cost:
    """Run a federation in so many cells, or on one broker, and say what it has cost."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # root's broker becomes another user
        machines = stack.enter_context(Machines(1 + cells))
        programs = begun(folder, machines, agents, load)
        aggregator, file = programs[-1], folder / "bench" / "rounds.jsonl"

        def spent() -> float:
            return sum(cpu_seconds(pid) for each in programs for pid in family(each.pid))

        def recorded(rounds: int) -> int:
            deadline = time.monotonic() + PATIENCE
            while not file.exists() or len(read_records(folder / "bench")) < rounds:
                if aggregator.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"it ended early: {(folder / 'programs.log').read_text()[-2000:]}")
                time.sleep(0.05)
            return len(read_records(folder / "bench"))

        recorded(1)
        connecting = spent()
        done = recorded(load.warm_up)
        before, begin = spent(), time.monotonic()
        rounds = recorded(load.warm_up + load.rounds) - done
        seconds, after = time.monotonic() - begin, spent()
        aggregator.send_signal(signal.SIGSTOP)
        at_work = (after - before) / seconds
        while spending(spent, CALM) > at_work / 4:
            pass  # agents end what they were asked for
        idle = spending(spent, IDLE)
        memory = sum(pss(pid) for each in programs for pid in family(each.pid)) / 1024
        records = read_records(folder / "bench")[load.warm_up :]
        return Cost(
            1e3 * connecting / agents,
            1e3 * (after - before - idle * seconds) / (rounds * agents * load.share),
            1e3 * 3600 * idle / agents,
            memory,
            float(sum(record.missing for record in records)),
            seconds / rounds,
        )


def spending(spent: Callable[[], float], seconds: float) -> float:
    """Return how many cores are at work, over some seconds."""
    before = spent()
    time.sleep(seconds)
    return (spent() - before) / seconds


def begun(folder: Path, machines: Machines, agents: int, load: Load) -> list[subprocess.Popen[str]]:
    """Start all programs, those of a cell on a machine of its own; the aggregator is the last."""
    processes.open_many_files()
    cells = len(machines.addresses) - 1
    core, *edges = (Place(address, PORT) for address in machines.addresses)
    cell_files.write(Plan(core, tuple(edges), TOPICS, keep=True), folder / "cells", None)
    log, programs = folder / "programs.log", []
    for number in range(1 + cells):
        place = folder / "cells" / (CELL.format(number) if number else CORE)
        place.chmod(0o755)
        (place / CONFIGURATION).chmod(0o644)
        command = f"cd {place} && exec {find_mosquitto()} -c {CONFIGURATION}"
        programs.append(machines.start(number, ["sh", "-c", command], log))

    def begin(number: int, *arguments: str) -> None:
        broker = ("--broker", machines.addresses[number])
        command = [sys.executable, *arguments, "--run", "bench", *broker]
        programs.append(machines.start(number, command, log))

    for cell in range(1, cells + 1):
        begin(cell, "-m", "fedjury", "ingest", "--cell", f"{cell}")
    shards = cells or 2
    for shard in range(1, shards + 1):
        fleet = ["--n", f"{agents}", "--processes", "1", "--shared-downlink"]
        machine, part = (shard if cells else 0), ("--shard", f"{shard}/{shards}")
        begin(machine, "agents/spawn.py", *load.flags, *fleet, *part)
    serving = ["--agents", f"{agents}", "--rounds", "1000", "--runs", str(folder), "--no-report"]
    rule = ["--cells", f"{cells}", "--rule", "clipped_mean", "--client-fraction", f"{load.share}"]
    patience = ["--set", "collect.patience=900", "--set", "limits.agents=200000"]
    begin(0, "-m", "aggregator", *load.flags, *serving, *rule, *patience)
    return programs
