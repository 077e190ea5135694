"""What records say was measured of a run's models, by name: at the end, and at best. All pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fedjury.protocol.harm import Harm
from fedjury.protocol.record import MOST, Figures, Quality, RoundRecord

LOW = frozenset({"rmse", "mse", "mae", "mape", "loss", "error", "perplexity", "seconds"})
"""Words in a metric's name by which a low value is good."""

HIGH = frozenset({"accuracy", "f1", "r2", "auc", "precision", "recall", "iou", "dice", "score"})
"""Those by which a high one is. Of other metrics nobody knows which value is best."""


def weighted_mean(figures: Mapping[str, Figures], most: int) -> dict[str, float]:
    """Return the mean of each metric, weighted by samples, of which one agent has ``most``.

    A metric counts for those that measured it. Those of most agents come first, so that nobody
    alone, with names of its own, decides which are shown.
    """
    sums: dict[str, float] = {}
    totals: dict[str, int] = {}
    agents: Counter[str] = Counter()
    for agent in sorted(figures):  # in whatever order they came
        samples = min(figures[agent].samples, most)
        for metric, value in figures[agent].metrics.items():
            sums[metric] = sums.get(metric, 0.0) + samples * value
            totals[metric] = totals.get(metric, 0) + samples
            agents[metric] += 1
    ordered = sorted(totals, key=lambda metric: -agents[metric])
    return {metric: sums[metric] / totals[metric] for metric in ordered if totals[metric]}


def value_of(quality: Quality, metric: str) -> float | None:
    """Return a metric of a model by name: as agents measured it, else as the server did."""
    if metric in quality.metrics:
        return quality.metrics[metric]
    return quality.accuracy if metric == "accuracy" else None


def named(rounds: Iterable[RoundRecord], most: int = MOST) -> tuple[str, ...]:
    """Return the names of the metrics of a run's models, as they first came, ``most`` of them."""
    found: dict[str, None] = {}
    for one in rounds:
        found |= dict.fromkeys(one.model.metrics)
        if len(found) >= most:
            break
    return tuple(found)[:most]


def low_is_good(metric: str) -> bool | None:
    """Return whether a low value of a metric is good; None if its name does not say."""
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    if words & LOW:
        return True
    return False if words & HIGH else None


class Measured(NamedTuple):
    """A metric of a run's global model."""

    name: str
    last: float
    best: float | None
    """None where nobody knows whether high is good, or low."""
    when: int
    """The first round with the best value."""
    agents: int
    """How many agents measured the last value; 0 where they did not, or no record says."""


def measured(rounds: Sequence[RoundRecord], metric: str, best_is: str = "") -> Measured | None:
    """Return what came of a metric over a run; None if it was not measured.

    ``best_is``: highest or lowest, where that is set.
    """
    known = [(value, one) for one in rounds if (value := value_of(one.model, metric)) is not None]
    if not known:
        return None
    low = best_is == "lowest" if best_is else low_is_good(metric)
    best, at = known[-1]
    if low is not None:
        best, at = min(known, key=lambda pair: pair[0] if low else -pair[0])
    by = [one for _, one in known if one.accepted]
    agents = sum(metric in one.metrics for one in by[-1].evaluated.values()) if by else 0
    return Measured(metric, known[-1][0], None if low is None else best, at.round, agents)


def harm_of(rounds: Iterable[RoundRecord]) -> Harm:
    """Return the harm done in a run, as its last record says, or as older ones add up to it."""
    harm = Harm()
    for one in rounds:
        if one.harm != Harm():
            harm = one.harm
        elif one.accepted or not one.round:
            harm = harm.after(one.model.accuracy, one.model.backdoor if one.round else None)
    return harm


class LetIn(NamedTuple):
    """The largest backdoor in an accepted model."""

    success: float
    round: int
    """In which the model was made."""


def largest_let_in(rounds: Iterable[RoundRecord], since: int = 0) -> LetIn | None:
    """Return the largest backdoor among the models accepted of rounds ``since`` one.

    It is None where no model was accepted, or no backdoor is measured.
    """
    known = [
        LetIn(one.model.backdoor, one.about)
        for one in rounds
        if one.accepted and one.about >= since and one.model.backdoor is not None
    ]
    return max(known, key=lambda one: (one.success, -one.round), default=None)
