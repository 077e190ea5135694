"""A federation in cells, in one process: a broker and an ingest worker for each, and bridges."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

from support.federation import Federation
from support.workers import PickledEngine

from fedjury.aggregator.in_cells import rows_on
from fedjury.cells.worker import IngestWorker, Place
from fedjury.cluster.shard import Worker
from fedjury.protocol.cells import (
    CellPresence,
    CellWorker,
    GroupSum,
    GroupSumRequest,
    PartialSum,
    SumRequest,
    Tally,
)
from fedjury.protocol.messages import (
    AggregatorPresence,
    Candidate,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    History,
    Manifest,
    Metrics,
    Model,
    Round,
    Vote,
)
from fedjury.protocol.secure import (
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.topics import CHANNELS
from fedjury.protocol.transport.connection import Connection
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport
from fedjury.rules.partitions import WorkerLost

DOWN = (
    Manifest,
    Round,
    Model,
    History,
    Candidate,
    GroupCandidate,
    GroupHistory,
    SumRequest,
    GroupSumRequest,
    SecurePeers,
    SecureInbox,
    UnmaskRequest,
    AggregatorPresence,
)
UP = (
    Vote,
    GroupVotes,
    Decline,
    Metrics,
    SecureKeys,
    SecureShares,
    UnmaskShares,
    CellWorker,
    CellPresence,
    Tally,
    PartialSum,
    GroupSum,
)


class Bridge:
    """Copies from an edge broker to the core's what goes up, and to the edge's what goes down."""

    def __init__(self, core, edge, topics):
        self.core, self.edge, self.topics = core, edge, topics
        self.bytes_up = 0
        self.lost = lambda _kind: False
        core.listeners.append(self.down)
        edge.listeners.append(self.up)

    def down(self, topic, payload):
        """Copy to the edge."""
        self.copy(self.edge, DOWN, topic, payload)

    def up(self, topic, payload):
        """Copy to the core."""
        if self.copy(self.core, UP, topic, payload):
            self.bytes_up += len(payload)

    def copy(self, to, kinds, topic, payload):
        """Copy a message, if it is of these kinds and not lost; returns whether it was."""
        kind = self.topics.parse(topic).kind
        if kind not in kinds or self.lost(kind):
            return False
        to.publish(topic, payload, retain=CHANNELS[kind].retain)
        return True


class WorkersEngine(PickledEngine):
    """An engine whose workers have what the ingest workers of a federation keep."""

    def __init__(self, federation):
        self.federation, self.doomed = federation, None
        super().__init__([None] * len(federation.workers))
        for cell in range(self.workers):
            self.held[cell] = Worker(partial(self.rows, cell))

    def loses(self, worker, method):
        """Let a worker end when it is next asked for something, and another take its place."""
        self.doomed = worker, method

    def call(self, worker, method, *arguments):
        """Make a call, unless the worker ends just then."""
        if self.doomed == (worker, method):
            self.doomed = None
            self.held[worker].clear()
            self.federation.replace_worker(worker + 1)
            return WorkerLost(worker)
        return super().call(worker, method, *arguments)

    def rows(self, cell, key):
        """Return what a cell's ingest worker keeps now."""
        return self.federation.workers[cell].rows(key)


class CellFederation(Federation):
    """Agents in as many cells as there are fleets; what cells keep is theirs."""

    def __init__(self, folder, *, cells: int, **changes):
        self.lives = itertools.count(1)
        self.edges = [MemoryBroker() for _ in range(cells)]
        self.workers: list[IngestWorker] = []
        self.joined, self.turning = 0, False
        core = MemoryBroker()
        # A cell of its own number, counted from 1, as in the settings.
        super().__init__(folder, fleets=cells, broker=core, cells__count=cells, **changes)
        self.bridges = [Bridge(core, edge, self.topics) for edge in self.edges]
        self.workers = [self.worker(cell) for cell in range(1, cells + 1)]
        for worker in self.workers:
            worker.agents.tell_all()

    def worker(self, cell: int) -> IngestWorker:
        """Start an ingest worker beside a cell's broker."""
        transport = MemoryTransport(self.edges[cell - 1], self.settings.run.name, self.topics)
        connection = Connection(transport, f":cell-{cell}")
        worker = IngestWorker(connection, Place(cell), self.seconds, next(self.lives))
        worker.begin()
        return worker

    def begin(self):
        """Start an aggregator, which in turn is given the rows where its rule needs them."""
        aggregator = super().begin()
        if self.settings.cells.engine != "none":
            partitions = self.settings.aggregation.partitions
            self.engine = WorkersEngine(self)
            rows = rows_on(self.engine, partitions)
            aggregator.config = replace(aggregator.config, rows=rows)
        return aggregator

    def replace_worker(self, cell: int) -> None:
        """Let a cell's worker die without a goodbye, and another take its place."""
        self.workers[cell - 1].connection.transport.vanish()
        self.workers[cell - 1] = self.worker(cell)

    def fleet(self, population, numbers):
        """Let agents join in a cell: one after the other, in turn."""
        core, self.broker = self.broker, self.edges[self.joined % len(self.edges)]
        self.joined += 1
        try:
            return super().fleet(population, numbers)
        finally:
            self.broker = core

    def seconds(self):
        """Look at the clock, by which time goes on; workers go on meanwhile."""
        now = super().seconds()
        if not self.turning:
            self.turning = True
            for worker in self.workers:
                while worker.turn():
                    pass
            self.turning = False
        return now
