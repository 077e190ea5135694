"""Whole federations over a private broker, as ``run.py`` makes them, watched from outside."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
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

Clocks = dict[int, tuple[str, float]]
"""Process -> its command, and the processor time that it has taken (seconds)."""


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


@contextmanager
def started(
    rounds: int, *flags: str, scenario: str = W1
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start W1, or another scenario file, or what ``flags`` make of it; then wait for its end.

    Yields its process, and the file of its records.

    Raises
    ------
    SystemExit
        If it fails; with the command to see why.
    """
    with TemporaryDirectory() as runs:
        places = ["--config", scenario, "--rounds", str(rounds), "--runs", runs, "--run", "bench"]
        command = [sys.executable, "run.py", *places, *flags]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            yield process, Path(runs) / "bench" / "rounds.jsonl"
        finally:
            if process.wait():
                sys.exit("the federation failed; to see why: " + " ".join(command[1:]))


def recorded(file: Path) -> int:
    """Count the rounds that are recorded so far."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def federation(rounds: int, *flags: str, scenario: str = W1) -> Run:
    """Watch a run of :func:`started` from its start to its end."""
    start = weighed = time.monotonic()
    warm, last, memory = 0, 1, 0.0
    before: Clocks = {}
    after = before
    with started(rounds, *flags, scenario=scenario) as (process, file):
        while process.poll() is None and not recorded(file):
            time.sleep(LOOK)
        first = time.monotonic() - start
        while process.poll() is None:
            done = recorded(file)
            if done >= WARM_UP and not before:
                warm, before = done, clocks(process.pid)
            if WARM_UP < done < rounds:
                after, last = clocks(process.pid), done
            if time.monotonic() > weighed + WEIGH:
                memory = max(memory, sum(map(pss, family(process.pid))))
                weighed = time.monotonic()
            time.sleep(LOOK)
        records = read_records(file.parent)
    updates = sum(r.updates for r in records[warm:last])
    spent = {part: seconds / updates for part, seconds in _spent(before, after).items()}
    return Run(records, memory, spent, first - (records[0].timing.seconds or 0.0))


def _spent(before: Clocks, after: Clocks) -> dict[str, float]:
    """Add up the processor time between two looks, part by part."""
    spent = {"broker": 0.0, "aggregator": 0.0, "agents": 0.0}
    for pid, (command, seconds) in after.items():
        part = {"mosquitto": "broker", "agents": "agents"}.get(command.strip(), "aggregator")
        spent[part] += seconds - before.get(pid, ("", seconds))[1]
    return spent


def clocks(pid: int) -> Clocks:
    """Return the command and the processor time (seconds) of a process and all below it."""
    result = {}
    for one in family(pid):
        with suppress(OSError):
            command = Path(f"/proc/{one}/comm").read_text(encoding="utf-8")
            result[one] = command, cpu_seconds(one)
    return result
