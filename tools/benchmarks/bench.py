"""Measure everything and print one table.

Ratios are taken within one run of the same moment, at least five times: a noisy machine moves both
sides. The table goes to tools/benchmarks/results/ as Markdown and JSON. Takes a quarter of an
hour, without what is only measured if it is asked for.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from fedjury.config.program import run_main
from fedjury.learning.training import train_alone, train_together
from tools.benchmarks import (
    aggregating,
    beside,
    cells,
    defence,
    dropouts,
    ingest,
    judging,
    many_cells,
    masking,
    messages,
    network,
    partitioned,
    spilled,
    training,
)
from tools.benchmarks.figures import Figure, publish, ratios

AGENTS = 1000
EXAMPLES = """examples:
  python -m tools.benchmarks.bench
  python -m tools.benchmarks.bench --only w1 --repeats 3
  python -m tools.benchmarks.bench --only rules          writes rules.md and rules.json
  python -m tools.benchmarks.bench --only defence        what detection and a jury cost
  python -m tools.benchmarks.bench --only cells          two bridged cells beside one broker
"""


def main() -> None:
    """Measure what is asked for, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.bench",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", choices=PARTS, help=f"one part of it (default: all but {', '.join(ASKED_FOR)})"
    )
    parser.add_argument(
        "--repeats",
        type=int,
        default=5,
        metavar="N",
        help="how often each is measured (default: %(default)s)",
    )
    chosen = parser.parse_args()
    figures: list[Figure] = []
    for name, part in PARTS.items():
        if chosen.only == name or (chosen.only is None and name not in ASKED_FOR):
            figures += part(chosen.repeats, say)
    publish(chosen.only or "bench", figures)


def w1(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure the main workload beside the plain loop and its own floor, in turn."""
    torch.set_num_threads(1)
    alone, lean, floor, runs = [], [], [], []
    training.rate(train_alone, training.W1, training.W1.alone)  # warms up
    for number in range(1, repeats + 1):
        say(f"W1 over MQTT, {number} of {repeats}")
        alone.append(training.rate(train_alone, training.W1, training.W1.alone))
        lean.append(training.rate(training.train_lean, training.W1, training.W1.alone))
        floor.append(max(on_both_cores(), statistics.median(messages.rounds(5))))
        runs.append(network.federation(18))
    rates = [run.updates_per_second for run in runs]
    seconds = [run.round_seconds for run in runs]
    spent = [1e3 * sum(run.processor.values()) for run in runs]
    return [
        Figure("W1: plain PyTorch loop, one core", alone, "updates/s"),
        Figure("W1 over MQTT, everything included", rates, "updates/s"),
        ratios("W1 over MQTT / plain loop", rates, alone, at_least=5),
        ratios("W1 over MQTT / leanest plain loop", rates, lean),
        Figure("W1: a round", seconds, "s"),
        Figure("W1: floor, the larger of messages and training alone", floor, "s"),
        ratios("W1: a round / floor", seconds, floor, at_most=2),
        Figure("W1: processor time, all processes", spent, "ms/update"),
        Figure("W1: memory, all processes (PSS)", [run.memory for run in runs], "MB", at_most=700),
        Figure("W1: start to first round", [run.first_round for run in runs], "s", at_most=3),
    ]


def on_both_cores() -> float:
    """Return the seconds of W1's training alone, half of the agents on each of two cores."""
    context = mp.get_context("spawn")
    seconds: Any = context.Queue()
    together = context.Barrier(2)
    halves = [context.Process(target=_half, args=(together, seconds)) for _ in range(2)]
    for half in halves:
        half.start()
    slower = max(seconds.get(timeout=60) for _ in halves)
    for half in halves:
        half.join()
    return float(slower)


def _half(together: Any, seconds: Any) -> None:
    torch.set_num_threads(1)
    training.rate(train_together, training.W1, 100)  # warms up
    together.wait(60)
    seconds.put(AGENTS / 2 / training.rate(train_together, training.W1, AGENTS // 2))


UNEQUAL = "lognormal(mean=4, sigma=1)"
"""W1's samples, dealt so that some hold dozens, half hold one or two, and a few none."""


def sizes(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure W1 beside itself with agents of unequal sizes and the same samples, in turn."""
    runs: dict[str, list[network.Run]] = {"equal": [], "log-normal": []}
    for number in range(1, repeats + 1):
        say(f"W1 with equal and with log-normal sizes, {number} of {repeats}")
        runs["equal"].append(network.federation(18))
        runs["log-normal"].append(network.federation(18, "--samples", UNEQUAL))
    rates = {way: [run.updates_per_second for run in some] for way, some in runs.items()}
    spent = {way: [1e3 * sum(run.processor.values()) for run in some] for way, some in runs.items()}
    return [
        *(Figure(f"W1, {way} sizes", rate, "updates/s") for way, rate in rates.items()),
        *(Figure(f"W1, {way} sizes: processor time", s, "ms/update") for way, s in spent.items()),
        ratios("W1: log-normal / equal sizes", rates["log-normal"], rates["equal"], at_least=0.6),
        ratios("W1: processor time, log-normal / equal", spent["log-normal"], spent["equal"]),
    ]


def crowd(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure 1,000 and 10,000 agents that share a downlink a process, at the same time."""
    figures = []
    for called, rounds, shares in (
        ("all", 6, {10_000: 1.0, 1_000: 1.0}),
        ("100", 60, {10_000: 0.01, 1_000: 0.1}),
    ):
        crowds = {f"{n:,} agents": beside.Crowd(n, share) for n, share in shares.items()}
        spent: dict[str, list[float]] = {name: [] for name in crowds}
        for number in range(1, repeats + 1):
            say(f"1,000 and 10,000 agents, {called} called, {number} of {repeats}")
            for name, milliseconds in beside.processor_time(crowds, rounds).items():
                spent[name].append(milliseconds)
        name = f"shared downlink, {called} called"
        figures += [
            Figure(f"{name}: processor time, {agents}", result, "ms/update")
            for agents, result in spent.items()
        ]
        many, few = spent.values()
        figures.append(ratios(f"{name}: 10,000 / 1,000 agents", many, few, at_most=1.05))
    return figures


def codecs(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure bytes, and what the model comes to with them."""
    del repeats  # the same seed gives the same model
    figures = judging.sizes()
    for codec in ("float32", "int8", "int7+zstd"):
        say(f"accuracy with {codec}")
        run = network.federation(40, "--codec", codec, "--set", "training.epochs=5")
        figures.append(Figure(f"accuracy after 40 rounds, {codec}", [100 * run.accuracy], "%"))
    return figures


PARTS: dict[str, Callable[[int, Callable[[str], None]], list[Figure]]] = {
    "training": training.measure,
    "rules": aggregating.measure,
    "partitions": partitioned.measure,
    "judging": judging.measure,
    "groups": judging.together,
    "secure": masking.measure,
    "secure-dropouts": dropouts.measure,
    "w1": w1,
    "sizes": sizes,
    "codecs": codecs,
    "crowd": crowd,
    "defence": defence.measure,
    "ingest": ingest.measure,
    "cells": cells.measure,
    "spilled": spilled.measure,
    "many-cells": many_cells.measure,
}

ASKED_FOR = {"secure-dropouts", "cells", "spilled", "many-cells"}
"""Parts that are left out if nobody asks for them: twenty minutes without a ratio, a run of many
programs for which the cores should be idle, or 6 GB of disk."""


START = time.monotonic()


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.monotonic() - START:6.0f} s  {text}", flush=True)


if __name__ == "__main__":
    run_main(lambda _: main(), ())
