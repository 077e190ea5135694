"""Gives a target many inputs with no fuzzer around it, for its memory and the slowest of them.

``python -m tools.fuzz.memory_growth TARGET --inputs 100000 --seconds 10`` prints one line of JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tools.fuzz import targets
from tools.fuzz.target import Target
from tools.fuzz.variants import damaged, variant

SETTLED = 10
"""One part in so many is over when memory is looked at first: caches are filled by then."""


class MemoryGrowth(NamedTuple):
    """What a stretch of inputs did."""

    inputs: int
    """Inputs after the first look."""
    grown: int
    """Bytes by which our memory has grown meanwhile."""
    slowest: float
    """Seconds that the slowest took."""


def twisted(data: bytes, target: Target, rng: random.Random) -> bytes:
    """Make a hostile input of one we have."""
    if target.head is None:
        return damaged(data, rng)[: target.longest]
    return data[: target.head] + variant(data[target.head :], rng)[: target.longest]


def measure(name: str, target: Target, inputs: int, seconds: float) -> MemoryGrowth:
    """Give a target so many inputs, or as many as it takes in so many seconds."""
    rng = random.Random(0)
    known = targets.inputs_of(name, target)
    until = time.monotonic() + seconds
    slowest, before, settled, done = 0.0, 0, 0, 0
    while done < inputs and time.monotonic() < until:
        data = rng.choice(known) if done % 2 else twisted(rng.choice(known), target, rng)
        begun = time.perf_counter()
        target.one(data)
        slowest = max(slowest, time.perf_counter() - begun)
        done += 1
        late = time.monotonic() > until - seconds * (1 - 1 / SETTLED)
        if not before and (late or done > inputs / SETTLED):
            before, settled = resident(), done
    return MemoryGrowth(done - settled, resident() - before, slowest)


def resident() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str]) -> None:
    """Measure one target."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz.memory_growth")
    parser.add_argument("target", choices=targets.NAMES)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    chosen = parser.parse_args(arguments)
    result = measure(chosen.target, targets.load(chosen.target), chosen.inputs, chosen.seconds)
    print(json.dumps(result._asdict()))


if __name__ == "__main__":
    main(sys.argv[1:])
