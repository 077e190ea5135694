"""What an ingest worker costs: processor time an update, and bytes up beside the updates' own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from fedjury import processes
from fedjury.broker.local import BrokerAddress as LocalBroker
from fedjury.broker.local import local_broker
from fedjury.protocol.cells import CellWorker, PartialSum, SumRequest, Tally, listed
from fedjury.protocol.codec import encode
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import Manifest, Message, Phase, Round, Update
from fedjury.protocol.transport.mqtt_transport import MqttTransport
from fedjury.rules.sums import CLIPPED, fineness
from tools.benchmarks.figures import Figure
from tools.benchmarks.partitioned import made_up
from tools.benchmarks.processes import cpu_seconds, resident

AGENTS, SMALL, ROUNDS = 100, 13_106, 20
RUN, CORE = "bench", ":core"
PATIENCE = 60.0
"""Seconds that a round may take."""


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Let a worker take the updates of 100 agents, round after round, and add them up."""
    costs: list[float] = []
    up: list[float] = []
    memory: list[float] = []
    with local_broker("mosquitto", say=lambda _: None) as broker, worker(broker) as child:
        cell = Cell(broker)
        try:
            cell.round(1)  # what is only done once
            for number in range(repeats):
                say(f"an ingest worker, {number + 1} of {repeats}")
                before, spent = cell.heard, cpu_seconds(child.pid)
                for step in range(ROUNDS):
                    cell.round(2 + number * ROUNDS + step)
                updates = AGENTS * ROUNDS
                costs.append(1000 * (cpu_seconds(child.pid) - spent) / updates)
                up.append(cell.size * updates / (cell.heard - before))
                memory.append(resident(child.pid) / 1e6)
        finally:
            cell.close()
    what = f"{AGENTS} agents a cell, {SMALL:,} parameters"
    return [
        Figure(f"ingest worker, {what}: processor time an update", costs, "ms", at_most=0.15),
        Figure(f"ingest worker, {what}: bytes of updates / bytes up", up, at_least=50),
        Figure("ingest worker: resident memory", memory, "MB"),
    ]


@contextmanager
def worker(broker: LocalBroker) -> Iterator[subprocess.Popen[bytes]]:
    """Run an ingest worker as a process of its own."""
    words = ["ingest", "--cell", "1", "--broker", f"{broker.host}:{broker.port}", "--run", RUN]
    child = subprocess.Popen([sys.executable, "-m", "fedjury", *words], stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        processes.stop(child, 5.0)


class Cell:
    """The agents of a cell, and whoever asks its worker, on one broker."""

    def __init__(self, broker: LocalBroker) -> None:
        address = BrokerAddress(broker.host, broker.port)
        self._core = MqttTransport(address, RUN).open()
        self._core.join(CORE, CellWorker, Tally, PartialSum, presence=False)
        self._agents = MqttTransport(address, RUN).open()
        self._names = [f"agent-{number:03}" for number in range(AGENTS)]
        for name in self._names:
            self._agents.join(name)
        self._updates = made_up(AGENTS, SMALL)
        self.size = len(encode(self._update(0, 1)))
        self.heard = 0
        """Bytes that the worker has said."""
        self._core.send(CORE, manifest())
        self._next(CellWorker, 0)
        deadline = time.monotonic() + PATIENCE
        while self._agents.connections < AGENTS and time.monotonic() < deadline:
            self._agents.receive(0.05)

    def round(self, number: int) -> None:
        """Send all updates of a round, and ask for their sum once the worker has them."""
        self._core.send(CORE, Round(number, 1, Phase.TRAIN, 0, "all", (), PATIENCE))
        time.sleep(0.05)  # the round comes on another way than updates
        for row, name in enumerate(self._names):
            self._agents.send(name, self._update(row, number))
        came: set[str] = set()
        while len(came) < AGENTS:
            tally = self._next(Tally, number)
            assert isinstance(tally, Tally)
            came.update(listed(tally.names))
        one = np.array([1], "<u4").tobytes()
        taken = np.array([AGENTS], "<u4").tobytes()
        asked = SumRequest(number, 1, 1, one, taken, b"", CLIPPED, 1.0, fineness(AGENTS), 0)
        self._core.send(CORE, asked)
        self._next(PartialSum, number)

    def close(self) -> None:
        """Leave."""
        self._agents.close()
        self._core.close()

    def _update(self, row: int, number: int) -> Update:
        return Update(self._names[row], number, 0, 4, self._updates[row])

    def _next(self, kind: type[Message], number: int) -> Message:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._agents.receive(0)
            delivery = self._core.receive(0.01)
            if delivery is None:
                continue
            self.heard += delivery.size
            message = delivery.message
            if isinstance(message, kind) and getattr(message, "round", number) == number:
                return message
        raise TimeoutError(f"no {kind.__name__} of round {number} within {PATIENCE:g} s")


def manifest() -> Manifest:
    """Return what the worker needs to know of a model of that many parameters."""
    plain = Manifest(
        "own",
        (("w", (SMALL,)),),
        SMALL,
        1,
        1,
        0.1,
        0.0,
        "float32",
        "float32",
        10**8,
        "lof",
        {},
        1,
        1,
    )
    return replace(plain, cells={"partitions": 1, "finite": True})
