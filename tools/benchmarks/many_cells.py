"""100,000 agents in eight cells that keep their updates, beside a thousand on one broker.

Processor time is that of all programs together. What agents cost that nobody calls, their
keep-alive, is measured while the aggregator is stopped, and said apart, and so is connecting.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fedjury import processes
from fedjury.aggregator.store import read_records
from fedjury.broker import cell_files
from fedjury.broker.cell_brokers import Place, Plan
from fedjury.broker.cell_files import CELL, CORE
from fedjury.broker.local import HOST
from fedjury.processes import free_port
from fedjury.protocol.topics import ROOT as TOPICS
from tools.benchmarks.cells import running_broker, start
from tools.benchmarks.figures import Figure
from tools.benchmarks.network import W1
from tools.benchmarks.processes import cpu_seconds, family, pss

CELLS, AGENTS, CALLED = 8, 100_000, 0.01
FEW = 1_000
ROUNDS, WARM_UP = 20, 3
IDLE = 30.0
"""Seconds for which the aggregator is stopped: less than brokers bear."""
PATIENCE = 900.0


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
    """Measure both, in turn."""
    few, many = [], []
    for number in range(1, repeats + 1):
        say(f"{FEW:,} agents on one broker, {number} of {repeats}")
        few.append(federation(0, FEW, 1.0))
        say(f"{AGENTS:,} agents in {CELLS} cells, {number} of {repeats}")
        many.append(federation(CELLS, AGENTS, CALLED))
    figures = []
    for name, costs in ((f"{FEW:,} agents", few), (f"{AGENTS:,} agents", many)):
        figures += [
            Figure(f"{name}: an update, without keep-alive", [c.update for c in costs], "ms"),
            Figure(f"{name}: connecting, an agent", [c.connecting for c in costs], "ms"),
            Figure(f"{name}: keep-alive, an agent", [c.idle for c in costs], "ms/hour"),
            Figure(f"{name}: a round", [c.seconds for c in costs], "s"),
            Figure(f"{name}: updates that did not come", [c.lost for c in costs], ""),
        ]
    ratio = [b.update / a.update for a, b in zip(few, many, strict=True)]
    memory = [c.memory for c in many]
    return [
        *figures,
        Figure(f"{AGENTS:,} / {FEW:,} agents: an update", ratio, at_most=1.1),
        Figure(f"{AGENTS:,} agents: memory of all programs", memory, "GB", at_most=20),
    ]


def federation(cells: int, agents: int, share: float) -> Cost:
    """Run a federation in so many cells, or on one broker, and say what it has cost."""
    with TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)  # root's broker becomes another user
        programs = begun(folder, cells, agents, share, stack)
        aggregator, file = programs[-1], folder / "bench" / "rounds.jsonl"

        def spent() -> float:
            return sum(cpu_seconds(pid) for each in programs for pid in family(each.pid))

        def recorded(rounds: int) -> None:
            deadline = time.monotonic() + PATIENCE
            while not file.exists() or len(read_records(folder / "bench")) < rounds:
                if aggregator.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"it ended early: {(folder / 'programs.log').read_text()[-2000:]}")
                time.sleep(0.05)

        recorded(1)
        connecting = spent()
        recorded(WARM_UP)
        before, begin = spent(), time.monotonic()
        done = len(read_records(folder / "bench"))
        recorded(WARM_UP + ROUNDS)
        seconds, after = time.monotonic() - begin, spent()
        rounds = len(read_records(folder / "bench")) - done
        aggregator.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        still = spent()
        time.sleep(IDLE)
        idle = (spent() - still) / IDLE
        memory = sum(pss(pid) for each in programs for pid in family(each.pid)) / 1024
        aggregator.send_signal(signal.SIGCONT)
        records = read_records(folder / "bench")[WARM_UP:]
        return Cost(
            1e3 * connecting / agents,
            1e3 * (after - before - idle * seconds) / (rounds * agents * share),
            1e3 * 3600 * idle / agents,
            memory,
            float(sum(record.missing for record in records)),
            seconds / rounds,
        )


def begun(
    folder: Path, cells: int, agents: int, share: float, stack: ExitStack
) -> list[subprocess.Popen[bytes]]:
    """Start all programs; the aggregator is the last of them."""
    places = [Place(HOST, free_port()) for _ in range(1 + cells)]
    core, *edges = places
    cell_files.write(Plan(core, tuple(edges), TOPICS, keep=True), folder / "cells", None)
    names = [CORE, *(CELL.format(number) for number in range(1, cells + 1))]
    programs = [
        stack.enter_context(running_broker(folder / "cells" / each, place))
        for each, place in zip(names, places, strict=True)
    ]

    def begin(place: Place, *arguments: str) -> None:
        programs.append(start(folder, place, arguments))
        stack.callback(processes.stop, programs[-1])

    run = ["--config", W1, "--run", "bench"]
    for number, place in enumerate(edges, 1):
        begin(place, "-m", "fedjury", "ingest", "--cell", f"{number}", "--run", "bench")
    shards = cells or 2
    for shard in range(1, shards + 1):
        place = edges[shard - 1] if edges else core
        fleet = ["--n", f"{agents}", "--processes", "1", "--shared-downlink"]
        begin(place, "agents/spawn.py", *run, *fleet, "--shard", f"{shard}/{shards}")
    serving = ["--agents", f"{agents}", "--rounds", "1000", "--runs", str(folder), "--no-report"]
    rule = ["--cells", f"{cells}", "--rule", "clipped_mean", "--client-fraction", f"{share}"]
    patience = ["--set", "collect.patience=900", "--set", "limits.agents=200000"]
    begin(core, "-m", "aggregator", *run, *serving, *rule, *patience)
    return programs
