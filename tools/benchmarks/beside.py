"""Several federations at the same time, measured in one window: load of others moves all of them.

On a busy machine the processor time of an update differs by a third from one minute to the next, so
that runs one after the other tell nothing about a difference of five percent.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tools.benchmarks.figures import ROOT
from tools.benchmarks.network import LOOK, W1, WARM_UP, Clocks, clocks, recorded

ROUNDS = 100_000
"""More than any of them comes to."""
LEAVING = 60.0
"""Seconds that a run has to end."""


class Crowd(NamedTuple):
    """A federation of W1's kind whose agents share a downlink a process."""

    agents: int
    share: float = 1.0
    """Of them that a round calls."""

    @property
    def called(self) -> int:
        """How many agents a round calls."""
        return max(1, round(self.share * self.agents))


def processor_time(crowds: Mapping[str, Crowd], rounds: int) -> dict[str, float]:
    """Return the processor time of an update (ms) of each, while the first goes through ``rounds``.

    Raises
    ------
    SystemExit
        If one of them ends early.
    """
    with contextlib.ExitStack() as running:
        runs = {name: running.enter_context(_running(crowd)) for name, crowd in crowds.items()}
        first = next(iter(runs.values()))
        for run in runs.values():
            run.wait_for(WARM_UP)
        first.wait_for(recorded(first.file) + 1)
        before = {name: run.look() for name, run in runs.items()}
        first.wait_for(recorded(first.file) + rounds)
        after = {name: run.look() for name, run in runs.items()}
    result = {}
    for name, crowd in crowds.items():
        (start, done), (end, now) = before[name], after[name]
        spent = sum(seconds - start.get(pid, ("", seconds))[1] for pid, (_, seconds) in end.items())
        result[name] = 1e3 * spent / ((now - done) * crowd.called)
    return result


class _Run(NamedTuple):
    process: subprocess.Popen[bytes]
    file: Path

    def look(self) -> tuple[Clocks, int]:
        """Return the processor time that its processes have taken, and its rounds so far."""
        return clocks(self.process.pid), recorded(self.file)

    def wait_for(self, rounds: int) -> None:
        """Wait until so many rounds are recorded."""
        while recorded(self.file) < rounds:
            if self.process.poll() is not None:
                sys.exit("a federation ended early: " + " ".join(map(str, self.process.args)))  # type: ignore[arg-type]
            time.sleep(LOOK)


@contextlib.contextmanager
def _running(crowd: Crowd) -> Iterator[_Run]:
    """Start a federation, and end it."""
    with TemporaryDirectory() as runs:
        places = ["--config", W1, "--rounds", str(ROUNDS), "--runs", runs, "--run", "bench"]
        agents = ["--n", str(crowd.agents), "--client-fraction", str(crowd.share)]
        command = [sys.executable, "run.py", *places, *agents, "--shared-downlink"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            yield _Run(process, Path(runs) / "bench" / "rounds.jsonl")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(LEAVING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
