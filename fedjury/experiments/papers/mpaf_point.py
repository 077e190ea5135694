"""Where a run of the experiment mpaf stands, and what was seen there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.metrics import Mean, lately
from fedjury.experiments.papers.mpaf_setup import DEFENCES, MpafAgents, counts

NONE = "none"
ATTACKS = ("random", "history", "mpaf")
RULES = ("mean", "median", "trimmed_mean")
"""The rules of the paper."""

CENTRAL = 10
"""Fakes in percent of the genuine, where that does not vary."""

COMPARED: tuple[tuple[str, float], ...] = (
    *((name, 0.0) for name in DEFENCES),
    *((rule, clip) for clip in (0.3, 1.0) for rule in RULES),
)
"""Defences held against each other: by name, and M of norm clipping before them (0: none)."""

LAMBDA = 1e6

SETTLED = 10
"""Rounds at the end over which an accuracy is averaged: single rounds differ by a point or two."""


class Point(NamedTuple):
    """A point of the grid; its fields are the labels of its cells, beside the seed."""

    data: str
    defence: str
    attack: str
    percent: int
    """Fakes, of the genuine."""
    f: int
    """Fakes that the rule reckons with in a round; 0 if it need not know."""
    beta: float
    scale: float
    clip: float


def point(
    data: str,
    defence: str,
    attack: str,
    percent: int,
    *,
    f: int,
    beta: float = 1.0,
    scale: float = LAMBDA,
    clip: float = 0.0,
) -> Point:
    """Make a point; what comes to the same run is the same point."""
    if attack == NONE or not percent:
        attack, percent, scale = NONE, 0, LAMBDA
    return Point(data, defence, attack, percent, f if counts(defence) else 0, beta, scale, clip)


def trimmed(genuine: int, beta: float, attack: str, *, all_fakes: bool) -> int:
    """Return k where agents are sampled: the usual fakes expected in a round, or all there are.

    As many are dropped without an attack. Where too few are called, all but the middle is dropped.
    """
    usual = round(genuine * CENTRAL / 100)
    agents = MpafAgents(genuine, usual, beta)
    called = MpafAgents(genuine, 0, beta) if attack == NONE else agents
    return min(agents.fake_agents if all_fakes else agents.expected, called.droppable)


class Seen:
    """What runs came to: by point and seed, the accuracy of the last rounds."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._runs: dict[Point, dict[int, float]] = {}
        self.genuine = 0
        for result in results:
            labels = {name: value for name, value in result.labels.items() if name != "seed"}
            at = Point(**labels)  # type: ignore[arg-type]
            accuracy = lately(result, "accuracy", SETTLED)
            self._runs.setdefault(at, {})[int(result.labels["seed"])] = accuracy
            agents = result.settings.agents
            self.genuine = agents.n - round(agents.n * agents.malicious)

    def values(self, name: str) -> list[str | int | float]:
        """Return what a label was set to, in the order in which the cells were made."""
        return list(dict.fromkeys(getattr(at, name) for at in self._runs))

    def fake_agents(self, percent: int) -> int:
        """Return how many fakes that is."""
        return round(self.genuine * percent / 100)

    def accuracy(self, at: Point) -> Mean:
        """Return the accuracy over seeds."""
        return Mean(tuple(self._runs.get(at, {}).values()))

    def drop(self, at: Point, against: Point) -> Mean:
        """Return by how much one is lower than the other, seed by seed."""
        low, high = self._runs.get(at, {}), self._runs.get(against, {})
        return Mean(tuple(high[seed] - low[seed] for seed in low if seed in high), "points")

    # What most tables ask for.

    def of(self, data: str, rule: str, attack: str, percent: int) -> Point:
        """Return the point of the table of fractions: the rule reckons with the fakes there are."""
        return point(data, rule, attack, percent, f=self.fake_agents(percent))

    def lost(self, data: str, rule: str, attack: str, percent: int) -> Mean:
        """Return by how much an attack lowers the accuracy."""
        return self.drop(self.of(data, rule, attack, percent), self.of(data, rule, NONE, 0))
