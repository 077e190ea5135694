"""95 % intervals of shares that are counted in several runs: pure functions of counts.

The rounds of one run share its models, its data and its seed, so that they are alike. How much is
the **design effect**: how many times the variance of the runs' shares is that of as many
independent rounds (Pearson's X² over its degrees of freedom; 1 at least).

- Student's t over the runs: p ± t · √(effect · p (1 - p) / n). Where each run counts as many rounds
  this is the mean of their shares ± t times its standard error.
- Where none or all were hits the runs show no spread: Clopper and Pearson's interval of n divided
  by a design effect that was measured elsewhere. So it is where only one run has counted anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LEVEL = 0.95
"""Confidence of all intervals."""


class Count(NamedTuple):
    """So many of so many, in one run."""

    hits: int
    of: int


class Interval(NamedTuple):
    """Its two ends, within 0 and 1."""

    low: float
    high: float


def interval(runs: Sequence[Count], elsewhere: float = 1.0) -> Interval | None:
    """Return the interval of a share; None if nothing was counted.

    ``elsewhere``: the design effect to take where these runs show none.
    """
    some = [run for run in runs if run.of]
    if not some:
        return None
    whole = total(some)
    if len(some) == 1 or whole.hits in (0, whole.of):
        return clopper_pearson(whole, elsewhere)
    return student(some)


def total(runs: Iterable[Count]) -> Count:
    """Return the counts of several runs put together."""
    every = list(runs)
    return Count(sum(run.hits for run in every), sum(run.of for run in every))


def student(runs: Sequence[Count]) -> Interval:
    """Return Student's interval over two runs or more that have counted something."""
    from scipy.special import stdtrit  # type: ignore[import-untyped] # noqa: PLC0415 - slow

    hits, of = total(runs)
    share = hits / of
    effect = design_effect([runs]) or 1.0
    quantile = float(stdtrit(len(runs) - 1, (1 + LEVEL) / 2))
    half = quantile * math.sqrt(effect * share * (1 - share) / of)
    return Interval(max(0.0, share - half), min(1.0, share + half))


def clopper_pearson(count: Count, effect: float = 1.0) -> Interval:
    """Return the exact interval of a share, of the count divided by a design effect."""
    from scipy.special import betaincinv  # noqa: PLC0415 - slow

    hits, of = count.hits / effect, count.of / effect
    tail = (1 - LEVEL) / 2
    low = float(betaincinv(hits, of - hits + 1, tail)) if count.hits else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1 - tail)) if count.hits < count.of else 1.0
    return Interval(low, high)


def design_effect(cases: Iterable[Sequence[Count]]) -> float | None:
    """Return the design effect over cases, each with the counts of its runs; 1 at least.

    None if no case shows any: it takes two runs, and neither none nor all may be hits.
    """
    spread, freedom = 0.0, 0
    for case in cases:
        some = [run for run in case if run.of]
        hits, of = total(some)
        if len(some) < 2 or hits in (0, of):
            continue
        share = hits / of
        spread += sum(
            (run.hits - run.of * share) ** 2 / (run.of * share * (1 - share)) for run in some
        )
        freedom += len(some) - 1
    return max(1.0, spread / freedom) if freedom else None


def explained(effect: float | None, runs: int) -> str:
    """Say how the intervals of a report were made.

    ``effect``: the design effect of its false alarms; None: they show none.
    """
    if runs == 1:
        return (
            "In brackets: Clopper and Pearson's 95 % interval; it takes the rounds of the one run "
            "for independent and says nothing of other seeds."
        )
    if effect is None:
        divided = "of the count as it is: no false alarms show how much the rounds of a run differ"
    else:
        divided = f"of the count divided by {effect:.2f}, the design effect of all false alarms"
    return (
        "In brackets: the 95 % interval by Student's t over the seeds; where none or all were "
        f"counted, or in one seed only, Clopper and Pearson's {divided}."
    )
