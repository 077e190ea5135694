"""Rules over partitions of columns: their processor time beside that over the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedjury import rules
from fedjury.learning.arrays import Matrix
from fedjury.randomness import Purpose, stream
from fedjury.rules.blocks import BLOCK, Wide
from fedjury.rules.distances import products
from tools.benchmarks.aggregating import AGENTS, SMALL, told
from tools.benchmarks.figures import Figure, in_turn, ratios

PARTITIONS = 16
MANY, COLUMNS = 4000, 4096
"""Updates, and enough parameters to see what a matrix of their products costs."""
STEPS: dict[str, float] = {"clip": 1.0, "bucketing": 2, "nnm": 200}


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure all rules, all steps before one, and the products of all with all."""
    updates = made_up(AGENTS, SMALL)
    samples, context = np.full(AGENTS, 4), told(updates)
    plugins: dict[str, Callable[..., object]] = {name: rules.build(name) for name in rules.RULES}
    plugins |= {name: rules.PRE_AGGREGATIONS[name](number) for name, number in STEPS.items()}
    figures = []
    with threadpool_limits(1):
        for name, plugin in plugins.items():
            say(f"{name} in {PARTITIONS} partitions")
            ways = {
                count: partial(spent, partial(plugin, rules.cut(updates, count), samples, context))
                for count in (1, PARTITIONS)
            }
            figures.append(compared(name, ways, repeats))
        figures += [gram(AGENTS, SMALL, repeats, say), gram(MANY, COLUMNS, repeats, say)]
    return figures


def compared(name: str, ways: Mapping[int, Callable[[], float]], repeats: int) -> Figure:
    """Return the processor time in partitions over that in one."""
    named = {f"{count}": way for count, way in ways.items()}
    in_turn(named, 1)  # warms up
    seconds = in_turn(named, repeats)
    most = 1.2 if name == "centered_clipping" else 1.1
    title = f"{name}, {AGENTS:,} x {SMALL:,}: {PARTITIONS} partitions / 1"
    return ratios(title, seconds[f"{PARTITIONS}"], seconds["1"], at_most=most)


def gram(n: int, d: int, repeats: int, say: Callable[[str], None]) -> Figure:
    """Return the processor time of the products (n, n) by wide blocks over that by narrow ones."""
    say(f"products of {n:,} updates")
    updates, rows = made_up(n, d), np.arange(n)
    ways = {
        "wide": partial(spent, partial(products, updates, 0, rows)),
        "narrow": partial(spent, partial(narrow_products, updates)),
    }
    seconds = in_turn(ways, repeats)
    title = f"products, {n:,} x {d:,}: wide blocks / narrow ones"
    target = 0.6 if n == MANY else None
    return ratios(title, seconds["wide"], seconds["narrow"], at_most=target)


def narrow_products(updates: Matrix) -> Wide:
    """Return the products (n, n) by blocks of as many elements as stay in the cache."""
    n, d = updates.shape
    total = np.zeros((n, n))
    width = max(1, BLOCK // n)
    for start in range(0, d, width):
        block = updates[:, start : start + width].astype(np.float64)
        total += block @ block.T
    return total


def made_up(n: int, d: int) -> Matrix:
    """Return updates (n, d)."""
    result: Matrix = stream(0, Purpose.BENCHMARK).normal(0, 0.01, (n, d)).astype(np.float32)
    return result


def spent(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that something takes."""
    start = time.process_time()
    work()
    return time.process_time() - start
