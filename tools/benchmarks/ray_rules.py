"""What rules cost on workers that are actors of Ray, beside one process.

On a cluster that is there (fedjury cluster up, or ray start), whose workers hold random updates.
Both ways take turns, and medians count: processor time of all processes that take part, seconds,
bytes that go through the network of this machine, and the most memory that a worker has held. As in
a run, workers keep the rows that they have given to each other.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjury import rules
from fedjury.cells.rows import Rows
from fedjury.cluster import environment
from fedjury.cluster.partitions import Placement, WorkerPartitions, gathered
from fedjury.config.program import run_main
from fedjury.learning.arrays import Matrix
from fedjury.randomness import Purpose, stream
from fedjury.rules.partitions import Partitions, cut
from fedjury.rules.rule import Context
from tools.benchmarks.processes import cpu_seconds

EXAMPLES = """examples:
  python -m tools.benchmarks.ray_rules --token token --address 10.0.0.1:6390 --host 10.0.0.1
"""

SORTING = ("median", "trimmed_mean")
PARTITIONS = 16
NAMESPACE = "benchmark"


class RandomRows:
    """An ingest that has the rows ``at`` of all from the beginning."""

    def __init__(self, at: npt.NDArray[np.int64], d: int) -> None:
        self._held = Rows(len(at), d, PARTITIONS)
        for row, number in enumerate(at):
            self._held.write(row, update(int(number), d))
        self._ended = threading.Event()

    def run(self) -> None:
        """Wait for the end."""
        self._ended.wait()

    def stop(self) -> None:
        """Let it end."""
        self._ended.set()

    def rows(self, key: Hashable) -> Rows:  # noqa: ARG002
        """Return the rows."""
        return self._held


def update(number: int, d: int) -> npt.NDArray[np.float32]:
    """Return the update of an agent."""
    return stream(number, Purpose.BENCHMARK).standard_normal(d, dtype=np.float32)


def cpu(pids: Iterable[int]) -> float:
    """Return the processor time that processes have used, in seconds."""
    return sum(map(cpu_seconds, pids))


def parent(pid: int) -> int:
    """Return the process that has started another: of an actor, Ray's on that machine."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def memory(pid: int, name: str) -> int:
    """Return a number of a process's memory, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


def wire() -> int:
    """Return the bytes that have gone through this machine's network, loopback left out."""
    total = 0
    for folder in Path("/sys/class/net").iterdir():
        if folder.name != "lo" and not (folder / "bridge").is_dir():
            counts = folder / "statistics"
            total += sum(int((counts / f"{way}_bytes").read_text()) for way in ("rx", "tx"))
    return total


def timed(work: Callable[[], Any], pids: Iterable[int]) -> tuple[float, float, Any]:
    """Return seconds, processor time of these processes, and the result of something."""
    before, begun = cpu(pids), time.perf_counter()
    result = work()
    return time.perf_counter() - begun, cpu(pids) - before, result


def rule_of(name: str, partitions: Partitions) -> Callable[[], Any]:
    """Return what applies a rule."""
    rule, samples = rules.build(name), np.ones(partitions.n, dtype=np.int64)
    return lambda: rule(partitions, samples, Context())  # type: ignore[arg-type]


def measured(n: int, d: int, workers: int, repeats: int) -> dict[str, Any]:
    """Measure, on the cluster to which this process is connected."""
    from fedjury.cluster import ray_engine  # noqa: PLC0415 - reads the environment

    shares = np.array_split(np.arange(n), workers)
    actors = ray_engine.start_cells([(None, (RandomRows, (at, d))) for at in shares])
    places = ray_engine.places(actors)
    pids = [place.pid for place in places]
    nodes = {
        int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids
    }
    engine = ray_engine.engine(workers)
    placements = [Placement(np.arange(len(at)), at) for at in shares]
    held = [memory(pid, "VmRSS") for pid in pids]
    sent, ours = wire(), [os.getpid()]
    theirs = [*ours, *pids, *nodes]
    seconds, used, spread = timed(
        lambda: gathered(engine, 1, placements, d, PARTITIONS, keep=True), theirs
    )
    assert isinstance(spread, WorkerPartitions)
    part, whole = n * d * 4 / workers, matrix(n, d)
    found: dict[str, Any] = {
        "n": n,
        "d": d,
        "workers": workers,
        "machines": sorted({place.machine for place in places}),
        "gathered": {
            "seconds": seconds,
            "processor": used,
            "bytes_over_least": (wire() - sent) / (n * d * 4 * (workers - 1) / workers or 1),
        },
        "rules": {name: compared(name, whole, spread, theirs, repeats) for name in SORTING},
        "load": os.getloadavg()[0],
    }
    basis = [rss - part for rss in held]  # of a worker: Python, NumPy, Ray
    peaks = [memory(pid, "VmHWM") for pid in pids]
    found["peak_over_part"] = max(
        (peak - base) / part for peak, base in zip(peaks, basis, strict=True)
    )
    found["basis_bytes"] = max(basis)
    ray_engine.end(actors)
    return found


def matrix(n: int, d: int) -> Matrix:
    """Return all updates."""
    result = np.empty((n, d), dtype=np.float32)
    for number in range(n):
        result[number] = update(number, d)
    return result


def compared(
    name: str, whole: Matrix, spread: Partitions, theirs: list[int], repeats: int
) -> dict[str, Any]:
    """Compare a rule on workers with one process, in turns."""
    here, there = rule_of(name, cut(whole, PARTITIONS)), rule_of(name, spread)
    pairs = [(timed(here, [os.getpid()]), timed(there, theirs)) for _ in range(repeats)]
    same = all(one[2].tobytes() == many[2].tobytes() for one, many in pairs)
    return {
        "processor": median(one[1] for one, _ in pairs),
        "seconds": median(one[0] for one, _ in pairs),
        "processor_ratio": median(many[1] / one[1] for one, many in pairs),
        "speed": median(one[0] / many[0] for one, many in pairs),
        "same_bits": same,
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.ray_rules",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--token", type=Path, required=True, metavar="FILE", help="the cluster's")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="of the cluster")
    parser.add_argument("--host", required=True, help="address of this machine in it")
    parser.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--updates", type=int, default=16_000, help="default: %(default)s")
    parser.add_argument("--parameters", type=int, default=13_106, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=7, help="default: %(default)s")
    chosen = parser.parse_args()
    os.environ.update(environment.settings(chosen.token.resolve()))
    from fedjury.cluster import ray_engine  # noqa: PLC0415 - reads the environment

    ray_engine.connect(chosen.address, chosen.host, NAMESPACE)
    found = measured(chosen.updates, chosen.parameters, chosen.workers, chosen.repeats)
    print(json.dumps(found, indent=2))
    ray_engine.disconnect()


if __name__ == "__main__":
    run_main(lambda _: main(), (ConnectionError,))
