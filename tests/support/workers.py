"""Workers in this process, connected as an engine on many machines would do it."""

from __future__ import annotations

import pickle

import numpy as np

from fedjury.cluster.engine import NotHeld, WorkerLost
from fedjury.cluster.partitions import Placement, gathered
from fedjury.cluster.shard import Worker
from fedjury.rules.partitions import places


def sent(value):
    """Return what comes out at the other end of a wire; arrays cannot be written there."""
    value = pickle.loads(pickle.dumps(value))
    for array in (value, getattr(value, "values", None)):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return value


class CellRows:
    """Rows of a cell in partitions that can be let go of; ``released`` says which were."""

    def __init__(self, updates, count):
        self.parts = {p: updates[:, cut] for p, cut in enumerate(places(updates.shape[1], count))}
        self.released = []

    def part(self, p, order):
        """Return rows of a partition."""
        return self.parts[p][order]

    def release(self, p):
        """Let go of one."""
        del self.parts[p]
        self.released.append(p)


class PickledEngine:
    """Workers in this process; all that they are told or say is pickled.

    ``cells``: the rows of each, under the key "r". ``lost``: workers that have ended. ``moved``:
    bytes of updates that went from one to another, ``largest`` those of a piece. ``told``: bytes of
    what each was told in verbs.
    """

    def __init__(self, cells):
        self.cells = cells
        self.held = [Worker({"r": rows}.__getitem__) for rows in cells]
        self.workers = len(cells)
        self.lost = set()
        self.moved = self.largest = 0
        self.told = []

    def start_again(self, worker, rows):
        """Let a worker end and another take its place, whose cell has these rows by key."""
        self.held[worker] = Worker(rows.__getitem__)

    def kept(self):
        """Return how many numbers each worker keeps partitions under."""
        return [len(worker._held) for worker in self.held]

    def send(self, value):
        """Send nothing before it is needed."""
        return value

    def call(self, worker, method, *arguments):
        """Make a call at once, unless it must fail."""
        failed = [some for some in arguments if isinstance(some, WorkerLost)]
        if worker in self.lost or failed:
            return failed[0] if failed else WorkerLost(worker)
        if method == "place":
            self.moved += arguments[-1].nbytes
            self.largest = max(self.largest, arguments[-1].nbytes)
        if method in {"total", "columns", "map"}:
            self.told.append(len(pickle.dumps(arguments[2:])))
        try:
            return sent(getattr(self.held[worker], method)(*map(sent, arguments)))
        except NotHeld:
            return WorkerLost(worker)

    def result(self, call):
        """Return what came of a call."""
        if isinstance(call, WorkerLost):
            raise call
        return call


def dealt(n, workers):
    """Return which of n rows each of so many cells gives, and in which order."""
    shuffled = np.random.default_rng(1).permutation(n)
    return [Placement(np.arange(len(at))[::-1], at) for at in np.array_split(shuffled, workers)]


def engine_of(updates, partitions, placements):
    """Return workers whose cells hold the rows of these placements."""
    cells = []
    for order, at in placements:
        rows = np.empty((len(at), updates.shape[1]), dtype=np.float32)
        rows[order] = updates[at]
        cells.append(CellRows(rows, partitions))
    return PickledEngine(cells)


def on_workers(updates, partitions, workers):
    """Return updates (n, d) in partitions of so many workers, whose cells had some rows each."""
    placements = dealt(len(updates), workers)
    engine = engine_of(updates, partitions, placements)
    return gathered(engine, "r", placements, updates.shape[1], partitions)
