"""The attack of least squares over rounds, beside a run whose single updates are seen.

The run sends updates in the clear, so that what an attacker works out can be held against the
truth. The attacker is given what secure aggregation would tell: the means of groups that are drawn
as an aggregator draws them, and their members. All agents train in each round, so that the mean of
all is known, and what is looked for is how each one differs from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedjury.agents.assembly import simulated_agents_of
from fedjury.config.settings import Settings
from fedjury.experiments.papers.leak_attack import Equations, Rows, cosines, told_apart
from fedjury.learning.partition import partition, partition_spec_of
from fedjury.learning.weights import Vector
from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import BadMessage, Update
from fedjury.protocol.topics import below
from fedjury.randomness import Purpose, draw_groups, stream

SIZES = (5, 10, 20, 50)
"""Agents in a group."""

ROUNDS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""After how many rounds it is measured what the attacker knows."""

DAMPING = 0.03
"""Chosen on runs of seed 0: without it the attack is at its worst just where it could be solved."""

Groups = Sequence[Sequence[int]]


class LeakWatch:
    """Plays the attacker beside a run, and measures what it works out."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, below(settings.broker.root)
        self._spec = partition_spec_of(settings)
        self._number = {self._spec.name(number): number for number in range(self._spec.n)}
        self._updates: dict[int, Vector] = {}
        self._round, self._rows = 0, list[dict[str, Any]]()
        self._equations: dict[tuple[int, bool], Equations] = {}
        self._fixed: dict[int, Groups] = {}
        self._true: Rows | None = None
        data = simulated_agents_of(settings).check()
        self._classes = data.classes
        """Of as many outputs the biases come last in an update."""
        held = data.y_train[partition(self._spec, data).agents]
        counts = (np.bincount(row, minlength=data.classes) for row in held)
        self._labels = np.array([count.argmax() for count in counts])
        """The class of which each agent (n,) holds most samples."""

    def __call__(self, topic: str, payload: bytes) -> None:
        """Take an update; with the first of a round the one before is over."""
        try:
            if self._topics.parse(topic).kind is not Update:
                return
        except BadMessage:
            return
        message = codec.decode(topic, payload, Limits(finite=False), self._topics)
        assert isinstance(message, Update)
        if message.round != self._round:
            self._over()
        self._round = message.round
        self._updates[self._number[message.agent]] = message.delta

    def found(self) -> dict[str, Any]:
        """Return what was measured, a row for each size, kind of groups and number of rounds."""
        self._over()
        most = int(np.bincount(self._labels).max())
        return {"rows": self._rows, "most frequent label": most / self._spec.n}

    def _over(self) -> None:
        """Let the attacker note the round's means, and measure what it knows if that is due."""
        if len(self._updates) < self._spec.n:
            return
        now = np.array([self._updates[number] for number in range(self._spec.n)])
        self._updates = {}
        now -= now.mean(axis=0)
        scaled = now / np.sqrt((now**2).sum(axis=1).mean())
        self._true = scaled if self._true is None else self._true + scaled
        for size in SIZES:
            if size > self._spec.n // 2:
                continue
            changing = self._drawn(size)
            fixed = self._fixed.setdefault(size, changing)
            for stays, groups in ((False, changing), (True, fixed)):
                self._note(size, groups, now, stays=stays)
            if self._round in ROUNDS:
                self._measure(size, now)

    def _drawn(self, size: int) -> Groups:
        """Draw the groups of the round, as an aggregator does by the seed."""
        rng = stream(self._settings.run.seed, Purpose.GROUPS, self._round)
        groups = draw_groups(list(self._number), size, rng)
        return [[self._number[name] for name in members] for members in groups]

    def _note(self, size: int, groups: Groups, now: Rows, *, stays: bool) -> None:
        """Add the means of groups; rounds count alike, however long their updates are."""
        means = np.array([now[members].mean(axis=0) for members in groups])
        length = np.sqrt((means**2).sum(axis=1).mean()) * np.sqrt(size)
        known = self._equations.setdefault((size, stays), Equations(*now.shape))
        known.add(groups, means / length)

    def _measure(self, size: int, now: Rows) -> None:
        assert self._true is not None
        alone = np.zeros_like(now)
        for members in self._drawn(size):
            alone[members] = now[members].mean(axis=0)
        guesses = {
            "one round": alone,
            "changing": self._equations[size, False].solved(DAMPING),
            "fixed": self._equations[size, True].solved(DAMPING),
        }
        for groups, guess in guesses.items():
            seen = now if groups == "one round" else self._true
            labels = {"size": size, "groups": groups, "rounds": self._round}
            self._rows.append({**labels, **self._success(guess, seen, now)})

    def _success(self, guess: Rows, true: Rows, now: Rows) -> Mapping[str, float]:
        """Measure guesses (n, d) of what each agent sends against the truth."""
        alike = cosines(guess, true)
        said = guess[:, -self._classes :].argmax(axis=1)
        return {
            "cosine": float(np.diagonal(alike).mean()),
            "cosine with the last": float(np.diagonal(cosines(guess, now)).mean()),
            "told apart": told_apart(alike),
            "label read": float((said == self._labels).mean()),
        }
