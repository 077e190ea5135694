"""A whole federation in one process, over the memory link, one turn after the other.

Aggregator, store, fleets and messages are the real ones; only the broker is a dictionary, the
clock is counted, and one of our loops turns them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import runner_of
from fedjury.agents.simulated import SimulatedAgents
from fedjury.aggregator.assembly import build
from fedjury.aggregator.pooling import limits_of
from fedjury.aggregator.resume import resume
from fedjury.aggregator.service import Aggregator
from fedjury.aggregator.store import RunStore, read_records
from fedjury.config.settings import Settings, load
from fedjury.experiments.engine.setup import PLAIN
from fedjury.learning.partition import partition_spec_of, terms
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import Model, Phase
from fedjury.protocol.record import RoundRecord
from fedjury.protocol.topics import below
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.round.state import State

SMALL = PLAIN | {
    "run.name": "lab",
    "data.name": "digits",
    "data.test": 500,
    "model.name": "mlp",
    "agents.n": 20,
    "agents.malicious": 0.0,
    "agents.samples": 40,
    "training.batch_size": 10,
    "training.learning_rate": 0.2,
}
"""Twenty agents who hold 40 small digits each, and a network of 2,410 parameters."""

STEP = 0.001
"""Seconds that pass whenever somebody looks at the clock."""


@pytest.fixture(scope="module")
def one_thread():
    """Small networks are slower on many threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings_of(**changes) -> Settings:
    """Make settings of a small run; ``agents__n=5`` stands for ``agents.n = 5``."""
    given = {name.replace("__", "."): value for name, value in changes.items()}
    return load(overrides=SMALL | given)


class Watcher:
    """A screen that nobody looks at; what is said is kept."""

    def __init__(self):
        self.said: list[str] = []

    def say(self, text):
        """Keep what is said."""
        self.said.append(text)

    def waiting(self, online, wanted):
        """Ignore how many have joined."""

    def progress(self, state):
        """Ignore how far it is."""

    def finished(self, record):
        """Ignore a record."""


class Federation:
    """A federation that has a folder, a broker and fleets, and now and then an aggregator."""

    def __init__(
        self,
        folder: Path,
        *,
        fleets: int = 1,
        shared: bool = False,
        broker: MemoryBroker | None = None,
        **changes,
    ) -> None:
        self.folder, self.shared = folder, shared
        self.settings = settings_of(**changes)
        self.topics = below(self.settings.broker.root)
        self.broker = broker or MemoryBroker()
        self.broker.listeners.append(self.watch)
        self.models: dict[int, bytes] = {}
        self.said: list[str] = []
        self.inbox_order: np.random.Generator | None = None
        self._looks = itertools.count()
        self.fleets: list[AgentRunner] = []
        self.join(fleets)
        self.state: State

    def join(self, fleets: int = 1) -> None:
        """Let all agents join in so many processes; those who were there before vanish."""
        for fleet in self.fleets:
            fleet.transport.vanish()
        population = simulated_agents_of(self.settings)
        size = population.spec.n
        parts = [range(size * i // fleets, size * (i + 1) // fleets) for i in range(fleets)]
        self.fleets = [self.fleet(population, numbers) for numbers in parts]

    def begin(self) -> Aggregator:
        """Start an aggregator, as the entry point does, with what is in the folder."""
        settings = self.settings
        parts = build(settings)
        store = RunStore(self.folder, keep=settings.validation.look_back + 2)
        history, self.state = resume(store, settings, parts)
        self.hub = MemoryTransport(self.broker, settings.run.name, self.topics)
        self.hub.decoder.limit(limits_of(parts.config, parts.manifest))
        link = Connection(self.hub, "aggregator")
        self.screen = Watcher()
        self.aggregator = Aggregator(
            link, parts.config, store, self.screen, self.records, self.seconds
        )
        partition = terms(partition_spec_of(settings), settings.data)
        self.aggregator.begin(parts.manifest, history, partition)
        self.state = self.aggregator.gather(self.state, settings.expected, 1.0)
        return self.aggregator

    def seconds(self) -> float:
        """Look at the clock, by which time goes on."""
        return next(self._looks) * STEP

    def let_pass(self, seconds: float) -> None:
        """Let so much time go by while nobody looks at the clock."""
        self._looks = itertools.count(next(self._looks) + round(seconds / STEP))

    def turn(self) -> State:
        """Let the aggregator take one message, and every fleet all that it has."""
        if self.inbox_order is not None:
            shuffled = list(self.hub.inbox)
            self.inbox_order.shuffle(shuffled)
            self.hub.inbox.clear()
            self.hub.inbox.extend(shuffled)
        self.state = self.aggregator.turn(self.state)
        for fleet in self.fleets:
            fleet.turn()
        return self.state

    def run(self, until: Callable[[State], bool] = lambda _: False) -> State:
        """Turn until the run is done, or ``until`` says so."""
        while self.state.phase.name is not Phase.DONE and not until(self.state):
            self.turn()
        return self.state

    def crash(self) -> None:
        """Take the aggregator away without a goodbye; what was on its way to it is lost."""
        self.hub.vanish()

    def whole(self) -> Federation:
        """Begin and run to the end; returns itself."""
        self.begin()
        self.run()
        self.aggregator.end()
        return self

    @property
    def records(self) -> list[RoundRecord]:
        """The records of the rounds so far, as they are on disk."""
        return read_records(self.folder)

    @property
    def accuracies(self) -> list[float]:
        """The accuracy after each round."""
        return [record.model.accuracy for record in self.records]

    def fleet(self, population: SimulatedAgents, numbers: range) -> AgentRunner:
        """Let the agents of these numbers join, in a process of their own."""
        hub = MemoryTransport(self.broker, self.settings.run.name, self.topics)
        fleet = runner_of(
            population,
            population.check(),
            numbers,
            hub,
            self.said.append,
            shared=self.shared,
            clock=self.seconds,
        )
        fleet.join()
        return fleet

    def watch(self, topic: str, payload: bytes) -> None:
        """Keep every accepted model; a version must never be published with other weights."""
        if topic == self.topics.where(self.settings.run.name, Model) and payload:
            try:
                model = codec.decode(topic, payload, Limits(finite=False), self.topics)
            except codec.BadMessage:
                return
            bits = model.weights.tobytes()
            assert self.models.setdefault(model.version, bits) == bits
