"""The members of one process: their data, their training in one batch, their votes.

A cohort of one is a device. Nothing here knows of networks or clocks: the fleet tells a cohort
what has to be done, and sends what it makes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from agents.agent import Judge as JudgeTask
from agents.agent import Train
from agents.learners import Called, Learner
from learning.evaluation import predict
from learning.training import Shards
from learning.validation.profiles import error_profile
from learning.validation.validate import Judge, Opinion
from learning.weights import Vector
from protocol.compression import as_received
from protocol.messages import Round, Update, Vote

CHUNK = 100
"""Members trained in one batch: few enough for the cache, many enough for the processor.

Chunks are cut by the members' numbers in the whole fleet, never by arrival: which members share a
batch may touch the last bit of a result, and the same seed must give the same bits. So the parts
into which a fleet is cut must not cut through a chunk. Where few are called, whole chunks are put
together: a call has its price, however few it trains (see ``agents.learners.honest``).
"""


class Member(NamedTuple):
    """One agent of the cohort: its name on the wire and its number in the whole fleet."""

    name: str
    number: int


class Members(NamedTuple):
    """Who is in the cohort, and how they behave."""

    genuine: tuple[Member, ...]
    fakes: tuple[Member, ...]
    learn: Learner
    attack: Learner
    judge: Judge
    lie: Judge


class Cohort:
    """Trains and judges for all members of a process."""

    def __init__(
        self,
        members: Members,
        model: nn.Module,
        data: Shards,
        classes: int,
        seed: int,
        look_back: int,
        codec: str = "float32",
    ) -> None:
        """``codec``: how candidates and history travel; what is judged has been through it."""
        self._members, self._model, self._data = members, model, data
        self._classes, self._seed, self._look_back = classes, seed, look_back
        self._genuine = {member.name: member for member in members.genuine}
        self._fakes = {member.name: member for member in members.fakes}
        self._row = {member.name: row for row, member in enumerate(members.genuine)}
        self._codec = codec
        self._models: dict[int, Vector] = {}
        self._judged: dict[int, Vector] = {}
        """Accepted models as they arrive as history: the same whether they did or not."""
        self._tried: tuple[Vector, dict[int, np.ndarray]] | None = None
        """The last candidate, and the profiles that it was given."""
        self._profiles: dict[tuple[int, int], np.ndarray] = {}
        self._round = -1, -1
        self._contributors: str | tuple[str, ...] = ()
        self._planned: set[str] = set()
        self._chunks: deque[tuple[Learner, tuple[Member, ...]]] = deque()
        self._deltas: dict[str, Vector] = {}

    def keep(self, version: int, weights: Vector) -> None:
        """Remember an accepted model; forget those that no judge will ask for."""
        self._models[version] = weights
        oldest = max(self._models) - max(self._look_back, 1)
        self._models = {v: w for v, w in self._models.items() if v >= oldest}
        self._judged = {v: w for v, w in self._judged.items() if v >= oldest}
        self._profiles = {key: p for key, p in self._profiles.items() if key[1] >= oldest}

    def look_back_at(self, version: int, weights: Vector) -> None:
        """Remember an accepted model that came as history."""
        self._judged.setdefault(version, weights)

    def begin(self, message: Round) -> None:
        """Plan the training of a round; what was learnt for it already is kept.

        An earlier round is over: a member with a slower connection has only now heard of it.
        """
        turn = message.round, message.version
        if turn[0] < self._round[0]:
            return
        if turn != self._round:
            self._round = turn
            self._deltas.clear()
            self._chunks.clear()
            self._planned.clear()
        elif message.contributors == self._contributors:
            return
        self._contributors = message.contributors
        for learner, members in (
            (self._members.attack, self._fakes),
            (self._members.learn, self._genuine),
        ):
            names = members if message.contributors == "all" else message.contributors
            called = [members[n] for n in names if n in members and n not in self._planned]
            called.sort(key=lambda member: member.number)
            self._planned.update(member.name for member in called)
            self._chunks.extend((learner, chunk) for chunk in _chunks(called))

    def train_chunk(self) -> list[str]:
        """Train the next chunk of the planned round; returns who that was.

        Nobody, if there is no chunk left, or the model has not come.
        """
        number, version = self._round
        if not self._chunks or version not in self._models:
            return []
        learner, members = self._chunks.popleft()
        numbers = tuple(member.number for member in members)
        called = Called(number, numbers, self._seed, self._models.get(version - 1))
        deltas = learner(self._models[version], called)
        # Fakes that all send the same share one row, and so one payload.
        rows = [deltas[0]] * len(members) if deltas.strides[0] == 0 else deltas
        self._deltas.update({m.name: row for m, row in zip(members, rows, strict=True)})
        return [member.name for member in members]

    def update(self, name: str, task: Train) -> Update | None:
        """Return a member's update, if it has been trained for this round."""
        if (task.round, task.version) != self._round or name not in self._deltas:
            return None
        samples = self._data.indices.shape[1]
        return Update(name, task.round, task.version, samples, self._deltas[name])

    def votes(self, names: Sequence[str], task: JudgeTask, candidate: Vector) -> list[Vote]:
        """Let validators judge a candidate: one forward pass for all of them together.

        A model is looked at once by each member and then remembered, and an accepted candidate is
        the next accepted model: a steady validator has one model to run a round, whatever the
        look-back. Nobody votes on a candidate whose predecessors are gone: newer models have come,
        and its round is over.
        """
        if not self._models.keys() | self._judged.keys() >= set(task.versions):
            return []
        rows = np.array([self._row[name] for name in names if name in self._row], dtype=np.int64)
        samples = self._data.indices.shape[1]
        self._remember(rows, task.versions)
        fresh = dict(zip(rows.tolist(), self._measure(candidate, rows), strict=True))
        self._tried = candidate, fresh
        votes = []
        for name in names:
            if name in self._row:
                row = self._row[name]
                accepted = np.stack([self._profiles[row, v] for v in task.versions])
                opinion = self._members.judge(accepted, fresh[row], samples)
            else:
                opinion = self._members.lie(*NOTHING, samples)
            votes.append(_vote(name, task, opinion, samples))
        return votes

    def _remember(self, rows: np.ndarray, versions: Sequence[int]) -> None:
        """Profile accepted models on the data of these members, where that is not done yet."""
        for version in versions:
            missing = [row for row in rows.tolist() if (row, version) not in self._profiles]
            if not missing:
                continue
            if version not in self._judged:
                self._judged[version] = as_received(self._models[version], self._codec)
            known = self._as_candidate(version)
            new = np.array([row for row in missing if row not in known], dtype=np.int64)
            measured = dict(
                zip(new.tolist(), self._measure(self._judged[version], new), strict=True)
            )
            found = known | measured
            self._profiles |= {(row, version): found[row] for row in missing}

    def _as_candidate(self, version: int) -> dict[int, np.ndarray]:
        """Return the profiles (2C,) that an accepted model was given as the candidate, by row."""
        if self._tried is None or not np.array_equal(self._tried[0], self._judged[version]):
            return {}
        return self._tried[1]

    def _measure(self, weights: Vector, rows: np.ndarray) -> np.ndarray:
        """Return the error profiles (m, 2C) of a model on the data of these members."""
        if not len(rows):
            return np.zeros((0, 2 * self._classes))
        held = self._data.indices[torch.from_numpy(rows)]
        answers = predict(self._model, weights, self._data.x[held.reshape(-1)])
        answers = answers.reshape(held.shape)
        labels = self._data.y[held].numpy()
        return np.stack([
            error_profile(said, right, self._classes)
            for said, right in zip(answers, labels, strict=True)
        ])  # fmt: skip


def _chunks(called: Sequence[Member]) -> Iterator[tuple[Member, ...]]:
    """Cut members, in order of number, into chunks, small ones put together."""
    together: tuple[Member, ...] = ()
    for _, some in groupby(called, key=lambda member: member.number // CHUNK):
        chunk = tuple(some)
        if together and len(together) + len(chunk) > CHUNK:
            yield together
            together = ()
        together += chunk
    if together:
        yield together


NOTHING = np.zeros((0, 0)), np.zeros(0)
"""The profiles of a member without data."""


def _vote(name: str, task: JudgeTask, opinion: Opinion, samples: int) -> Vote:
    return Vote(name, task.round, task.attempt, *opinion, samples)
