"""W1, the main workload, in one table: python benchmarks/w1.py.

1,000 agents, each its own MQTT connection, all called every round, the 13,106-parameter network,
4 samples each, one epoch of SGD with batch 4, FedAvg, QoS 1, one downlink per agent. Beside it,
in the same run: the same training in a plain PyTorch loop on one core and batched on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import torch

from learning import datasets, models
from learning.training import Shards, Training, train_alone, train_together, visits
from learning.weights import flatten

ROOT = Path(sys.path[0])
PLAN = Training(epochs=1, batch_size=4, learning_rate=0.1, momentum=0.0)
WARM_UP = 3
"""First rounds that are left out: the processes are still importing and connecting."""


def main() -> None:
    """Measure, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="rounds over the network (20)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the loops (5)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rate(train_alone, 100)  # warms up
    plain = [rate(train_alone, 100) for _ in range(chosen.repeats)]
    batched = [rate(train_together, 1000) for _ in range(chosen.repeats)]
    records, memory = network(chosen.rounds)
    rates = [r["updates_per_second"] for r in records[WARM_UP:]]
    base = statistics.median(plain)
    lines = [
        f"{'updates a second':42} {'min':>8} {'median':>8} {'max':>8} {'ratio':>7}",
        line("plain PyTorch loop, one core", plain, base),
        line("batched, one core", batched, base),
        line("W1 over MQTT, broker and all", rates, base),
        f"{'memory of W1, all processes (PSS, MB)':42} {memory:8,.0f}",
    ]
    print("\n".join(lines))
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    about = {"machine": platform.platform(), "cores": os.cpu_count(), "table": lines}
    (results / "w1.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def line(name: str, values: list[float], base: float) -> str:
    """Write a row: minimum, median, maximum, and the median over the plain loop's."""
    middle = statistics.median(values)
    return f"{name:42} {min(values):8,.0f} {middle:8,.0f} {max(values):8,.0f} {middle / base:6.1f}x"


def rate(train: Callable[..., np.ndarray], agents: int, chunk: int = 100) -> float:
    """Train ``agents`` agents in chunks and return updates a second."""
    data = datasets.load("mnist5k", ROOT / "data")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    model = models.build("classifier", data.shape, data.classes, 0)
    weights = flatten(model)
    order = visits(0, 0, range(chunk), PLAN.epochs, 4)
    start = time.perf_counter()
    for first in range(0, agents, chunk):
        held = torch.arange(4 * first, 4 * (first + chunk)).reshape(chunk, 4)
        train(model, weights, Shards(x, y, held), PLAN, order)
    return agents / (time.perf_counter() - start)


def network(rounds: int) -> tuple[list[dict[str, float]], float]:
    """Run W1 over a private broker; returns its records and the peak of its memory (MB)."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "run.py", "--n", "1000", "--evil", "0", "--rounds", str(rounds),
                   "--runs", folder, "--run", "w1"]  # fmt: skip
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        peaks = [0.0]
        watching = threading.Thread(target=watch, args=(process, peaks))
        watching.start()
        if process.wait():
            sys.exit("W1 failed; run it by hand to see why: " + " ".join(command[1:]))
        watching.join()
        text = (Path(folder) / "w1" / "rounds.jsonl").read_text(encoding="utf-8")
        return [json.loads(row) for row in text.splitlines()], peaks[0]


def watch(process: subprocess.Popen[bytes], peaks: list[float]) -> None:
    """Note the largest memory of a process and all below it while it runs."""
    while process.poll() is None:
        peaks[0] = max(peaks[0], sum(pss(pid) for pid in family(process.pid)))
        time.sleep(0.5)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, and they (Linux)."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = " ".join((task / "children").read_text() for task in tasks).split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def pss(pid: int) -> float:
    """Return a process's proportional set size in MB, 0 if it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return int(next(r for r in rollup.splitlines() if r.startswith("Pss:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
