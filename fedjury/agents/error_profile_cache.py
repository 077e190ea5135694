"""What the members of a process find in models: each one's error profile on its own data.

A model is looked at once by each member and then remembered, and an accepted candidate is the
next accepted model: a steady validator has one model to run a round, whatever the look-back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fedjury.learning.class_losses import ClassLosses, class_losses
from fedjury.learning.error_profiles import Histories, answers_changed
from fedjury.learning.evaluation import losses_each, predict, predict_each
from fedjury.learning.shards import Shards
from fedjury.learning.task import Predictions, Task
from fedjury.learning.weights import Matrix, Vector
from fedjury.protocol.compression import as_received

Rows = npt.NDArray[np.int64]
"""(m,): places of members in the shards."""

Values = npt.NDArray[np.int64]


class Found(NamedTuple):
    """The error profiles of one model on the data of each member, as far as they are known."""

    values: Values
    """(members, p): rows that are not known hold anything."""
    known: npt.NDArray[np.bool_]
    """(members,)"""
    answers: dict[int, Predictions]
    """Row -> what the model says of the member's samples (s,): of the newest models alone."""


class ErrorProfileCache:
    """Profiles models on the data of members, each model and member once."""

    def __init__(self, model: nn.Module, data: Shards, task: Task, codec: str) -> None:
        """``codec``: how candidates and history travel; what is judged has been through it."""
        self._model, self.data, self._task, self._codec = model, data, task, codec
        self._received: dict[int, Vector] = {}
        """Accepted models as they arrive as history: the same whether they did or not."""
        self._found: dict[int, Found] = {}
        self._tried: tuple[Vector, Found] | None = None
        """The last candidate, and what was found in it."""
        self._last: tuple[Rows, torch.Tensor, Predictions, Values] | None = None
        """Who looked last, and at what: a newcomer looks at the whole look-back in turn."""

    def receive(self, version: int, weights: Vector) -> None:
        """Remember an accepted model that came as history."""
        self._received.setdefault(version, weights)

    def forget(self, oldest: int) -> None:
        """Forget the versions before ``oldest``."""
        for kept in (self._received, self._found):
            for gone in [version for version in kept if version < oldest]:
                del kept[gone]

    @property
    def versions(self) -> Collection[int]:
        """The accepted models of which anything is remembered."""
        return self._received.keys() | self._found.keys()

    def knows(self, versions: Sequence[int], models: Mapping[int, Vector]) -> bool:
        """Say whether all versions are here, as history or among ``models``."""
        return self._received.keys() | models.keys() >= set(versions)

    def history(self, rows: Rows, versions: Sequence[int], models: Mapping[int, Vector]) -> Values:
        """Profile accepted models on the data of these members: (m, versions, p)."""
        for version in versions:
            if version not in self._received:
                self._received[version] = as_received(models[version], self._codec)
            if version not in self._found:
                self._found[version] = self._as_candidate(self._received[version])
            self._measure(self._received[version], rows, self._found[version])
            if version != versions[-1]:  # a candidate is compared with the last accepted model
                self._found[version].answers.clear()
        return np.stack([self._found[version].values[rows] for version in versions], axis=1)

    def candidate(self, rows: Rows, weights: Vector) -> Values:
        """Profile a candidate on the data of these members: (m, p)."""
        if self._tried is None or self._tried[0] is not weights:
            self._tried = weights, self._nothing()
        self._measure(weights, rows, self._tried[1])
        return self._tried[1].values[rows]

    def candidates(self, rows: Rows, weights: Matrix) -> Histories:
        """Profile models (G, d) on the data of these members in one pass: (m, G, p).

        Nothing of them is remembered.
        """
        if not len(rows):  # of validators that can vote at once, none may hold data
            return np.empty((0, len(weights), self._task.kinds), dtype=np.int64)
        x, targets, ends = self._samples(rows)
        answers = predict_each(self._model, weights, x, self._task)
        own = zip(np.split(answers, ends, axis=1), np.split(targets, ends), strict=True)
        return np.stack([self._task.profile(answered, right) for answered, right in own])

    def losses(self, rows: Rows, weights: Matrix) -> list[ClassLosses]:
        """Measure the losses of models (G, d) on each of these members' classes, in one pass."""
        x, targets, ends = self._samples(rows)
        found = losses_each(self._model, weights, x, torch.from_numpy(targets), self._task)
        own = zip(np.split(found, ends, axis=1), np.split(targets, ends), strict=True)
        return [class_losses(losses, right, self._task) for losses, right in own]

    def changed(self, rows: Rows, version: int) -> list[int | None]:
        """Count of each of these members the answers that the last candidate changes, (m,).

        ``version``: of the last accepted model. None where that is not known.
        """
        after = self._tried[1].answers if self._tried else {}
        before = self._found[version].answers if version in self._found else {}
        both = before.keys() & after.keys()
        return [
            answers_changed(before[row], after[row]) if row in both else None
            for row in rows.tolist()
        ]

    def answers(self, rows: Rows, weights: Vector) -> list[tuple[Predictions, Predictions]]:
        """Return what a candidate says of each member's samples (s,), and what they are."""
        x, targets, ends = self._samples(rows)
        answers = np.split(predict(self._model, weights, x, self._task), ends)
        return list(zip(answers, np.split(targets, ends), strict=True))

    def _as_candidate(self, weights: Vector) -> Found:
        """Return what was found in an accepted model while it was the candidate, if it was."""
        if self._tried is None or not np.array_equal(self._tried[0], weights):
            return self._nothing()
        return self._tried[1]

    def _nothing(self) -> Found:
        members = len(self.data.indices)
        values = np.empty((members, self._task.kinds), dtype=np.int64)
        return Found(values, np.zeros(members, dtype=bool), {})

    def _measure(self, weights: Vector, rows: Rows, result: Found) -> None:
        """Profile a model on the data of those of these members who have not yet."""
        rows = rows[~result.known[rows]]
        if not len(rows):
            return
        kept = np.int16 if 0 < self._task.classes <= np.iinfo(np.int16).max else None
        for row, (answered, right) in zip(rows.tolist(), self.answers(rows, weights), strict=True):
            result.values[row] = self._task.profile(answered, right)
            result.answers[row] = answered.astype(kept or answered.dtype)
        result.known[rows] = True

    def _samples(self, rows: Rows) -> tuple[torch.Tensor, Predictions, Values]:
        """Return inputs and targets of what these members hold, and where each next one begins.

        (N, ...), (N,) and (m - 1,), for N samples of all of them.
        """
        if self._last is None or not np.array_equal(self._last[0], rows):
            own = self.data.of(torch.from_numpy(rows))
            held = own.indices[torch.arange(own.indices.shape[1]) < own.counts[:, None]]
            ends = own.counts.cumsum(0)[:-1].numpy()
            self._last = rows, own.x.index_select(0, held), own.y[held].numpy(), ends
        return self._last[1:]
