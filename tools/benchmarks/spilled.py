"""Rules over more updates than memory holds: partitions of columns in files, one read at a time."""

from __future__ import annotations

import multiprocessing as mp
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fedjury import rules
from fedjury.cells.rows import StoredPartitions
from fedjury.cells.worker import IngestWorker, Place
from fedjury.protocol.messages import Manifest, Phase, Round, Update
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.randomness import Purpose, stream
from fedjury.rules import Context
from tools.benchmarks.figures import Figure

UPDATES, PARAMETERS, PARTITIONS = 10_000, 139_960, 16
"""5.6 GB: the cnn's updates, of ten thousand agents."""
RULES = "mean", "median"
MOST = 2.0
"""GiB of memory, all together."""
ROOM = 8_000_000_000
"""Bytes that must be free on the disk."""


RUN = "spilled"
MANIFEST = Manifest(
    model="cnn",
    tensors=(("all", (PARAMETERS,)),),
    parameters=PARAMETERS,
    classes=10,
    input_shape=(1, 28, 28),
    epochs=1,
    batch_size=4,
    learning_rate=0.1,
    momentum=0.0,
    codec="float32",
    history_codec="float32",
    max_bytes=8 * PARAMETERS,
    judge="lof",
    judge_options={},
    look_back=0,
    minimum_history=3,
    cells={"finite": True, "partitions": PARTITIONS},
)
ROUND = Round(1, 0, Phase.TRAIN, 0, "all", (), 3600.0)


class Spent(NamedTuple):
    """What a worker took."""

    writing: float
    """Processor time (ms) of an update: read, admitted, kept, cut by columns."""
    seconds: dict[str, tuple[float, float]]
    """Rule -> processor time, and time."""
    memory: float
    """GiB at the most, of everything."""


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure mean and median of what an ingest worker keeps in files, in a process of its own."""
    results = []
    for number in range(1, repeats + 1):
        say(f"{UPDATES:,} x {PARAMETERS:,} spilled, {number} of {repeats}")
        results.append(alone())
    title = f"{UPDATES:,} x {PARAMETERS:,} in files"
    figures = [Figure(f"{title}: ingest", [r.writing for r in results], "ms/update")]
    for rule in RULES:
        spent = [r.seconds[rule] for r in results]
        figures.append(Figure(f"{title}: {rule}, processor time", [s[0] for s in spent], "s"))
        figures.append(Figure(f"{title}: {rule}, time", [s[1] for s in spent], "s"))
    memory = [r.memory for r in results]
    return [*figures, Figure(f"{title}: memory at the most", memory, "GiB", at_most=MOST)]


def alone() -> Spent:
    """Let a process of its own do it, which has loaded nothing else."""
    with tempfile.TemporaryDirectory(dir=roomy()) as folder:
        context = mp.get_context("spawn")
        here, there = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(Path(folder), there))
        worker.start()
        there.close()
        try:
            result: Spent = here.recv()
        finally:
            worker.join()
    return result


def roomy() -> str:
    """Return a folder on a disk, not in memory, with room for the updates.

    Raises
    ------
    OSError
        If there is none.
    """
    for folder in (tempfile.gettempdir(), "."):
        memory = Path(folder).resolve().is_relative_to("/dev/shm")  # noqa: S108 - we do not write there
        if not memory and shutil.disk_usage(folder).free > ROOM:
            return folder
    raise OSError(f"{ROOM / 1e9:g} GB must be free on the disk")


def work(folder: Path, answer: Any) -> None:
    """Be a cell's ingest worker, be sent the updates, and apply the rules to what it keeps."""
    threadpool_limits(1)  # threads that wait for each other would be counted as work
    broker = MemoryBroker()
    agents = MemoryTransport(broker, RUN)
    worker = IngestWorker(Connection(MemoryTransport(broker, RUN), "worker"), Place(1, folder))
    worker.begin()
    names = [f"agent-{number:05d}" for number in range(UPDATES)]
    for name in names:
        agents.join(name)
    for message in (MANIFEST, ROUND):
        agents.send(names[0], message)
    heard(worker)
    rng, writing = stream(0, Purpose.BENCHMARK), 0.0
    for number in rng.permutation(UPDATES):
        update = rng.standard_normal(PARAMETERS, dtype=np.float32)
        agents.send(names[number], Update(names[number], 1, 0, 4, update))
        start = time.process_time()
        heard(worker)
        writing += time.process_time() - start
    assert worker.tallies is not None
    order = np.array([worker.tallies.row[name] for name in names])
    rows = worker.rows((1, 0))
    parts = [partial(rows.part, p, order) for p in range(PARTITIONS)]
    partitions, samples = StoredPartitions(parts, UPDATES, PARAMETERS), np.full(UPDATES, 4)
    seconds = {}
    for name in RULES:
        begun = time.process_time(), time.perf_counter()
        rules.applied(rules.build(name), name, partitions, samples, Context(), keeps=False)
        seconds[name] = time.process_time() - begun[0], time.perf_counter() - begun[1]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    worker.close()
    answer.send(Spent(1e3 * writing / UPDATES, seconds, memory))


def heard(worker: IngestWorker) -> None:
    """Let it take all that has come."""
    while worker.turn():
        pass
