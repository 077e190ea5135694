"""Fuzzes one target under Atheris: ``python -m fuzz.driver TARGET [flags of libFuzzer] [folders]``.

A process of its own, for libFuzzer ends the process when it has found something.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from fuzz import targets

OURS = ["agents", "aggregator", "config", "learning", "monitor", "protocol"]
"""Whose branches are watched."""

SLOWEST = "slowest input:"


class Stopwatch:
    """Gives a target its inputs, and says so when one takes longer than any before."""

    def __init__(self, one: Callable[[bytes], None]) -> None:
        self._one, self._slowest = one, 0.0

    def __call__(self, data: bytes) -> None:
        """Give it one."""
        begun = time.perf_counter()
        self._one(data)
        took = time.perf_counter() - begun
        if took > 1.1 * self._slowest:
            self._slowest = took
            print(f"{SLOWEST} {took:.6f} s", flush=True)


Variant = Callable[[bytes, random.Random], bytes]


def mutator(atheris: Any, variant: Variant, head: int) -> Callable[[bytes, int, int], bytes]:
    """Change an input as libFuzzer does, or as a hostile sender who knows the protocol."""

    def changed(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3 or len(data) <= head:
            return bytes(atheris.Mutate(data, longest))
        return data[:head] + variant(data[head:], rng)[: longest - head]

    return changed


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer has enough; does not return."""
    name, *flags = arguments
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=[*OURS, *targets.BESIDES.get(name, ())]):
        target = targets.load(name)
        variant: Variant = importlib.import_module("fuzz.variants").variant
    warnings.simplefilter("error", RuntimeWarning)  # as in the tests: numbers that overflow unseen
    target.one(b"")
    more = {} if target.head is None else {"custom_mutator": mutator(atheris, variant, target.head)}
    atheris.Setup([sys.argv[0], *flags], Stopwatch(target.one), **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
