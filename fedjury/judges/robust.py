"""A judge whom accepted poison cannot teach. Ours, beside VALIDATE; not from a paper.

For each of the 2C counts of a profile over the L accepted models, let k̃ be its median, MAD the
median of its distances from k̃ (1.4826 MAD estimates a standard deviation: Rousseeuw and Croux,
JASA 1993), and k̂ the smaller of the medians of the older and of the newer half of the models. A
candidate with the count k has risen by

    z = max(k - k̂, 0) / √(min((1.4826 MAD)², 2 φ (k̃ + 1)) + φ (k̃ + 1))

in units of what that count varies by. k̃ + 1 is the variance of a count of rare errors (Poisson's
is its mean; 1 keeps it positive), and φ how much more, or less, all counts together vary: by their
MADs, and by their squared changes from one model to the next, averaged over the models,

    φ = max(Σ (1.4826 MAD)² / Σ (k̃ + 1), δ held between ¼ and 1)    δ = 4 Σ change² / Σ (k̃ + 1)

A MAD does not see what happens rarely, such as errors in a class of few samples; changes do, but
accepted poison could raise their mean, so what they say counts within bounds. Where every model
is like the one before, one error more is no alarm, and two are. What one count's own MAD says is
bounded by what all counts vary by, for strikes at one class that were accepted raise that.

The score is the largest z of the counts that are higher than in the last accepted model. What
repairs a model is not to be rejected: poison that got in under a small server step would stay, as
every honest round is better than it and worse than usual. The threshold is fixed by how many
models and counts there are, whatever was accepted: the quantile of Student's t with L - 1 degrees
of freedom at 1 - false_alarm / 2C (Bonferroni).

**Why it holds where ``calibrated`` gives way.** An attacker who asks the judge first submits what
just passes, and what is accepted becomes history. But the lower median does not follow before half
of the older and half of the newer models are poisoned, and a MAD not before half of all are; no
limit grows with what it let in; and the rise of the one or two counts that a backdoor raises is not
diluted by the noise of all others.

**Exact.** With the whole numbers a = 2 k̃, b = 4 MAD, c = 2 k̂, D the sum of all squared changes,
and v = 1.4826² b², w = 8 (a + 2),

    φ = max(Σ v / Σ w, min(max(64 D / ((L - 1) Σ w), ¼), 1))
    z = max(k - c / 2, 0) / (√(min(v, 2 φ w) + φ w) / 4)

sums from the first count to the last, so that every machine comes to the same bits.

**Where it is weak.** ``false_alarm`` assumes counts that are near normal and fluctuate on their
own; few errors make it rarer, and where all counts jump together it is more often. A backdoor that
adds no error to a class is not seen. With a few samples of a class, three of four may be mistaken
before it is sure; counts of several validators, added up, are surer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.judges.judgements import ROUNDING, Judge, Judgements, check_minimum, informed
from fedjury.judges.prediction import threshold
from fedjury.judges.sums import Array, in_order
from fedjury.learning.error_profiles import Candidates, Histories
from fedjury.registry import judge

NORMAL = 1.4826 * 1.4826
"""The square of what makes a median absolute deviation the standard deviation of normal draws."""

BOUNDS = (0.25, 1.0)
"""Between which changes from model to model say how much counts vary."""


MOST = 2.0
"""How much a count's own MAD may say, in what all counts vary by."""


class Usual(NamedTuple):
    """What m validators are used to, by their accepted models."""

    level: Array
    """(m, p): of each count, the smaller of the medians of the older and of the newer models."""
    unit: Array
    """(m, p): what a rise of each count is measured in, in errors; at least ½."""


@judge
def robust(minimum_history: int = 11, false_alarm: float = 0.02) -> Judge:
    """Build the judge that measures each class by medians, which accepted poison does not move.

    ``minimum_history``: accepted models needed; with fewer, every candidate is clean.
    ``false_alarm``: how often one validator may call a benign candidate poisoned.

    Raises
    ------
    ValueError
        If ``minimum_history`` is below 3: one of two models is as good a median as the other; or
        if ``false_alarm`` is not in (0, 0.5].
    """
    check_minimum(minimum_history, 3, "judge 'robust'")
    threshold(2, false_alarm)  # raises if it cannot be

    def judge(profiles: Histories, candidates: Candidates) -> Judgements:
        known = usual(profiles)
        rises = np.where(candidates > profiles[:, -1], candidates - known.level, 0)
        score = (np.maximum(rises, 0) / known.unit).max(axis=1)
        _, models, counts = profiles.shape
        limit = np.full(len(score), limit_of(models, counts, false_alarm))
        return Judgements(score > limit + ROUNDING, score, limit, np.zeros((len(score), 0)))

    return informed(judge, minimum_history)


def usual(profiles: Histories) -> Usual:
    """Return what each count of accepted models (m, L, p) usually is, and how much it varies."""
    models = profiles.shape[1]
    newer = models // 2
    twice = _twice_median(profiles)
    level = np.minimum(_twice_median(profiles[:, :-newer]), _twice_median(profiles[:, -newer:]))
    apart = _twice_median(np.abs(2 * profiles - twice[:, np.newaxis]))  # four times the MAD
    spread: Array = NORMAL * (apart * apart).astype(np.float64)
    rare: Array = (8 * (twice + 2)).astype(np.float64)
    changes = np.diff(profiles, axis=1)
    total = (changes * changes).sum(axis=(1, 2))
    changing = 64 * total / ((models - 1) * rare.sum(axis=1))
    phi = np.maximum(in_order(spread) / rare.sum(axis=1), np.clip(changing, *BOUNDS))
    common = phi[:, np.newaxis] * rare
    return Usual(level / 2, np.sqrt(np.minimum(spread, MOST * common) + common) / 4)


def limit_of(models: int, counts: int, false_alarm: float) -> float:
    """Return the largest rise, in units, that so many ``counts`` show in benign candidates."""
    return threshold(models, false_alarm / counts)


def _twice_median(values: Histories) -> npt.NDArray[np.int64]:
    """Return twice the median of the models' whole numbers, (m, L, p) -> (m, p)."""
    ordered = np.sort(values, axis=1)
    models = values.shape[1]
    result: npt.NDArray[np.int64] = ordered[:, (models - 1) // 2] + ordered[:, models // 2]
    return result
