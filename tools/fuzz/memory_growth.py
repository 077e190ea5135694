"""Gives a target many inputs with no fuzzer around it, for its memory and the slowest of them."""

from __future__ import annotations

import gc
import os
import random
import time
from typing import NamedTuple

from tools.benchmarks.processes import resident
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


def measure(name: str, inputs: int, seconds: float) -> MemoryGrowth:
    """Give a target so many inputs, or as many as it takes in so many seconds."""
    rng, target = random.Random(0), targets.load(name)
    known = targets.inputs_of(name, target)
    for data in target.seeds():  # what is only loaded when it is needed is there
        target.one(data)
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
            before, settled = kept(), done
    return MemoryGrowth(done - settled, kept() - before, slowest)


def kept() -> int:
    """Return the bytes of memory that this process has when nothing is left to collect."""
    gc.collect()
    return resident(os.getpid())
