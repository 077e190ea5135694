"""Runs one peer and watches all its processes: rounds, CPU time, memory (Linux)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from tempfile import TemporaryFile
from typing import IO, NamedTuple

from tools.benchmarks.peers.environment import Failed
from tools.benchmarks.processes import cpu_seconds, family, pss

LIMIT = 900.0
"""Seconds after which a peer is stopped."""


class Measured(NamedTuple):
    """What a peer took for the rounds after its first, the warm-up."""

    seconds: list[float]
    """Of each round."""
    cpu: float
    """CPU seconds of all rounds and processes together."""
    memory: float
    """Largest PSS of all processes together, MB."""
    processes: int
    """Most processes at a time."""
    moved: float
    """How far the model moved in all rounds: the same for all who do the same work."""
    notes: Mapping[str, float]
    """Figures of its own, by name."""


def measure(
    command: Sequence[str], environment: Mapping[str, str], limit: float = LIMIT
) -> Measured:
    """Run a peer to its end, or for so many seconds at the most."""
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=errors
        )
        looks = [(0.0, 0)]
        threading.Thread(target=watch, args=(process, looks, limit), daemon=True).start()
        try:
            marks, cpu, notes = follow(process)
            failed = process.wait()
        finally:
            stop(process)
        if failed or "moved" not in notes:
            raise Failed(f"{complaint(errors)} (to see all: {by_hand(command)})")
    seconds = [end - start for start, end in pairwise(marks)]
    memory, processes = map(max, zip(*looks, strict=True))
    return Measured(seconds, cpu[-1] - cpu[0], memory, processes, notes["moved"], notes)


def follow(process: subprocess.Popen[str]) -> tuple[list[float], list[float], dict[str, float]]:
    """Read what a peer reports: when rounds ended, the CPU time until then, other figures."""
    marks, cpu, notes = [], [], {}
    assert process.stdout
    for line in process.stdout:
        word, _, value = line.partition(" ")
        if word == "@round":
            marks.append(float(value))
            cpu.append(sum(cpu_seconds(pid) for pid in family(process.pid)))
            print(".", end="", flush=True)
        elif word.startswith("@"):
            notes[word[1:]] = float(value)
    return marks, cpu, notes


def by_hand(command: Sequence[str]) -> str:
    """Write a peer's command for a shell at the root of the checkout."""
    return f"PYTHONPATH=. {' '.join(command)}"


def complaint(errors: IO[str]) -> str:
    """Pick the first exception from an error output, or its last line."""
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    raised = [line for line in lines if re.match(r"(\[\w+\]: )?[\w.]+(Error|Exception): .", line)]
    return (raised[:1] or lines[-1:] or ["it says nothing"])[0][:300]


def watch(process: subprocess.Popen[str], looks: list[tuple[float, int]], limit: float) -> None:
    """Note memory and processes once a second while a peer runs; stop it when it takes too long."""
    start = time.monotonic()
    while process.poll() is None:
        pids = list(family(process.pid))
        looks.append((sum(map(pss, pids)), len(pids)))
        if time.monotonic() - start > limit:
            stop(process)
        time.sleep(1)


def stop(process: subprocess.Popen[str]) -> None:
    """End a peer that still runs, and all that it started."""
    if process.poll() is None:
        for pid in list(family(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
