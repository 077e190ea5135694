"""Error counts that agents without data make up, to have something to judge by.

A made-up validator has samples of its own, some harder than others. A version gets wrong those that
are too hard for it, and versions get better: their error rate falls from that of guessing towards a
small one. It swings a little from version to version, by classes too, and what is near the border
goes this way and that. How much it is of each is drawn for each agent from the ranges below, which
hold what honest validators saw of small networks on digits and MNIST. All is drawn from (seed,
purpose, version, agent), so an accepted version has the same errors in every round in which it is
looked back at, as it has for an honest validator, and a fleet that was started again makes up the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjury.judges.sums import Array
from fedjury.learning.error_profiles import Classes, Histories, Profile
from fedjury.learning.task import Task
from fedjury.randomness import Purpose, stream

REST = 0.02, 0.1
"""The error rate that versions come to."""

PACE = 2.0, 6.0
"""Versions in which the rest of the error rate falls to 1/e."""

SWING = 0.0, 0.2
"""Deviation, in logarithms, of the error rate of a version."""

TRADE = 0.0, 0.4
"""The same of each of its classes."""

RESTLESS = 0.08
"""The same of how hard each sample is for it."""


class _Samples(NamedTuple):
    """The made-up samples (s,) of an agent, and how its errors go; see the ranges above."""

    labels: Classes
    mistaken: Classes
    """What each is called when it is mistaken."""
    ease: Array
    """Up to 1: mistaken by versions whose error rate is above that."""
    rest: float
    pace: float
    swing: float
    trade: float


class Inventor:
    """Makes up the error counts of agents without data, each version once."""

    def __init__(self, seed: int, samples: int, task: Task) -> None:
        """Make up ``samples`` samples of each."""
        self._seed, self._count, self._task = seed, samples, task
        self._classes = max(task.classes, 1)  # without classes nothing is mistaken for another
        self._samples: dict[int, _Samples] = {}
        self._found: dict[int, dict[int, Profile]] = {}

    def history(self, agents: Sequence[int], versions: Sequence[int]) -> Histories:
        """Make up what these agents find in accepted models: (m, versions, p)."""
        result = [[self._errors(agent, version) for version in versions] for agent in agents]
        return np.array(result, np.int64).reshape(len(agents), len(versions), self._task.kinds)

    def forget(self, oldest: int) -> None:
        """Forget the versions before ``oldest``."""
        self._found = {v: result for v, result in self._found.items() if v >= oldest}

    def answers(self, agent: int, version: int) -> tuple[Classes, Classes]:
        """Make up what an accepted model says of an agent's samples (s,), and what they are."""
        own = self._samples_of(agent)
        rng = stream(self._seed, Purpose.INVENTED_ERRORS, version, agent)
        guessing = 1 - 1 / self._classes
        rate = own.rest + (guessing - own.rest) * np.exp(-version / own.pace)
        swing = own.swing * rng.standard_normal()
        swings = swing + own.trade * rng.standard_normal(self._classes)
        hard = RESTLESS * rng.standard_normal(self._count)
        wrong = own.ease * np.exp(hard) < rate * np.exp(swings[own.labels])
        return np.where(wrong, own.mistaken, own.labels), own.labels

    def _errors(self, agent: int, version: int) -> Profile:
        result = self._found.setdefault(version, {})
        if agent not in result:
            result[agent] = self._task.profile(*self.answers(agent, version))
        return result[agent]

    def _samples_of(self, agent: int) -> _Samples:
        if agent not in self._samples:
            rng = stream(self._seed, Purpose.INVENTED_SAMPLES, agent=agent)
            classes = self._classes
            labels = rng.integers(classes, size=self._count)
            other = 1 + rng.integers(max(classes - 1, 1), size=self._count)
            ease, rest = rng.random(self._count), float(np.exp(rng.uniform(*np.log(REST))))
            ranges = [rng.uniform(*between) for between in (PACE, SWING, TRADE)]
            self._samples[agent] = _Samples(labels, (labels + other) % classes, ease, rest, *ranges)
        return self._samples[agent]
