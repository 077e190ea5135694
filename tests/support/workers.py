"""Partitions held by several workers, as an engine on many machines would have them."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np

from fedjury.rules.partitions import narrowed, places, told, tree_sum


def sent(value):
    """Return what comes out at the other end of a wire; arrays cannot be written there."""
    value = pickle.loads(pickle.dumps(value))
    if isinstance(value, np.ndarray):
        value.flags.writeable = False
    return value


@dataclass(frozen=True)
class Worker:
    """One that holds neighbouring partitions, arrays of its own: (first column, (n, w))."""

    parts: list

    def answers(self, function, arguments):
        """Return what a function makes of each."""
        return [
            function(part, first, *told(arguments, self.place(first, part)))
            for first, part in self.parts
        ]

    @property
    def span(self):
        """Say which columns it holds."""
        (first, _), (last, part) = self.parts[0], self.parts[-1]
        return slice(first, last + part.shape[1])

    def place(self, first, part):
        """Say which of its own columns a part has."""
        return slice(first - self.span.start, first - self.span.start + part.shape[1])

    def filled(self, function, rows, arguments):
        """Return new parts that a function fills."""
        made = []
        for first, part in self.parts:
            out = np.empty((rows, part.shape[1]), dtype=np.float32)
            function(part, first, out, *told(arguments, self.place(first, part)))
            made.append((first, sent(out)))
        return made


class WorkerPartitions:
    """Partitions on workers that hold as many each; all that they are told or say is pickled."""

    def __init__(self, workers):
        self.workers = workers
        self._parts = [part for worker in workers for _, part in worker.parts]
        self.n, self.count = len(self._parts[0]), len(self._parts)
        self.d = sum(part.shape[1] for part in self._parts)
        self.bytes = []
        """How long each message to a worker was, without the name of the function."""

    def total(self, function, *arguments):
        """Add up a part of the tree at each worker, and then these parts."""
        told = self._told(function, arguments)
        sums = (tree_sum(worker.answers(*ours)) for worker, ours in told)
        return sent(tree_sum(map(sent, sums)))

    def columns(self, function, *arguments):
        """Put the answers side by side."""
        told = self._told(function, arguments)
        answers = [worker.answers(*ours) for worker, ours in told]
        return sent(np.concatenate([sent(np.concatenate(some)) for some in answers]))

    def map(self, function, rows, *arguments):
        """Let each worker make new updates of its own."""
        told = self._told(function, arguments)
        made = (worker.filled(function, rows, ours) for worker, (function, ours) in told)
        return WorkerPartitions(list(map(Worker, made)))

    def whole(self):
        """Put all parts side by side."""
        return sent(np.hstack(self._parts))

    def _told(self, function, arguments):
        """Yield each worker, and what it is told: of arguments by column its own columns."""
        for worker in self.workers:
            ours = narrowed(arguments, worker.span)
            self.bytes.append(len(pickle.dumps(ours)))
            yield worker, (sent(function), tuple(sent(argument) for argument in ours))


def on_workers(updates, partitions, workers):
    """Return updates (n, d) in partitions of so many workers, which must be a divisor."""
    each, cuts = partitions // workers, places(updates.shape[1], partitions)
    parts = [(place.start, sent(updates[:, place])) for place in cuts]
    return WorkerPartitions(
        [Worker(parts[first : first + each]) for first in range(0, partitions, each)]
    )
