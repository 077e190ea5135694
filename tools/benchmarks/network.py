"""Whole federations over a private broker, as ``run.py`` makes them, watched from outside."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from fedjury.aggregator.store import read_records
from fedjury.protocol.record import RoundRecord
from tools.benchmarks.figures import ROOT
from tools.benchmarks.processes import cpu_seconds, family, pss

W1 = "tools/benchmarks/w1.toml"
"""The settings of the main workload."""
WARM_UP = 3
"""First rounds that are left out."""
LOOK = 0.02
"""Seconds between two looks at how far a run is."""
WEIGH = 1.0
"""Seconds between two looks at its memory, each of which holds the processes up a little."""


class Run(NamedTuple):
    """What was seen of a run."""

    records: list[RoundRecord]
    memory: float
    """Largest proportional set size of all processes together (MB)."""
    processor: dict[str, float]
    """Seconds of processor time an update, by part: broker, aggregator, agents."""
    first_round: float
    """Seconds from the start of the command to the opening of the first round."""

    @property
    def updates_per_second(self) -> float:
        """The median of the rounds after the first ones."""
        return float(
            statistics.median(r.timing.updates_per_second or 0.0 for r in self.records[WARM_UP:])
        )

    @property
    def round_seconds(self) -> float:
        """The median of the rounds after the first ones."""
        return float(statistics.median(r.timing.seconds or 0.0 for r in self.records[WARM_UP:]))

    @property
    def accuracy(self) -> float:
        """What the model came to."""
        return self.records[-1].model.accuracy or 0.0


def federation(rounds: int, *flags: str, scenario: str = W1) -> Run:
    """Run W1, or another scenario file, or what ``flags`` make of it.

    Raises
    ------
    SystemExit
        If it fails; with the command to see why.
    """
    folder = Path(tempfile.mkdtemp())
    command = [
        sys.executable,
        "run.py",
        "--config",
        scenario,
        "--rounds",
        str(rounds),
        "--runs",
        str(folder),
        "--run",
        "bench",
        *flags,
    ]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    file = folder / "bench" / "rounds.jsonl"
    while process.poll() is None and not _lines(file):
        time.sleep(LOOK)
    first = time.monotonic() - start
    warm, last, weighed, memory = 0, 1, start, 0.0
    before: dict[int, tuple[str, float]] = {}
    after = before
    while process.poll() is None:
        done = _lines(file)
        if done >= WARM_UP and not before:
            warm, before = done, clocks(process.pid)
        if WARM_UP < done < rounds:
            after, last = clocks(process.pid), done
        if time.monotonic() > weighed + WEIGH:
            memory = max(memory, sum(pss(pid) for pid in family(process.pid)))
            weighed = time.monotonic()
        time.sleep(LOOK)
    if process.returncode:
        sys.exit("the federation failed; to see why: " + " ".join(command[1:]))
    records = read_records(file.parent)
    shutil.rmtree(folder)
    updates = sum(r.updates for r in records[warm:last])
    spent = _spent(before, after)
    per_update = {part: seconds / updates for part, seconds in spent.items()}
    return Run(records, memory, per_update, first - (records[0].timing.seconds or 0.0))


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _spent(
    before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]]
) -> dict[str, float]:
    """Add up the processor time between two looks, part by part."""
    spent = {"broker": 0.0, "aggregator": 0.0, "agents": 0.0}
    for pid, (command, seconds) in after.items():
        part = {"mosquitto": "broker", "agents": "agents"}.get(command.strip(), "aggregator")
        spent[part] += seconds - before.get(pid, ("", seconds))[1]
    return spent


def clocks(pid: int) -> dict[int, tuple[str, float]]:
    """Return the command and the processor time (seconds) of a process and all below it."""
    result = {}
    for one in family(pid):
        with suppress(OSError):
            command = Path(f"/proc/{one}/comm").read_text(encoding="utf-8")
            result[one] = command, cpu_seconds(one)
    return result
