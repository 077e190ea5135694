"""A judge whose rate of false alarms is a setting. Ours, beside VALIDATE; not from a paper.

With p_0 … p_l the profiles of the L = l + 1 accepted models, oldest first, and w = floor(L / 2),
the increase T of a model over the w models before it is the length of what its class-wise errors
rose by, in units of what they vary by. For each error, with mean μ and variance σ² over the w
models (by w - 1), and f = 1/|D|:

    z = (p - μ) / √(σ² + f μ + f²)          T = √ Σ max(z, 0)²

f μ is the binomial variance of a share measured on |D| samples; f² keeps the variance positive
where nothing ever changed. Falling errors count as none.

The newer accepted models were candidates once, and they were benign: x_i = log(T_i + 0.1) for
i = w … l are N = L - w draws of a normal distribution, with mean m and standard deviation s (by
N - 1, at least 0.1). What the next draw does is Student's prediction interval:

    score = (x_new - m) / (s √(1 + 1/N)),  poisoned if above the 1 - false_alarm quantile of t_{N-1}

**What it assumes.** A benign round looks like those that were accepted, and the logs are near
normal. Then ``false_alarm`` is the share of benign rounds in which one validator says poisoned.
In simulations with a setting of 0.02 the share is near it where each error fluctuates on its own by
a factor of about e; less, down to 0.003, where errors are calm; up to 0.04 where all of them
together fluctuate by more than that factor from round to round.

**Where it is weak.** A backdoor that adds no error to a class, by a trigger in the pictures, is
not seen. Poison in small doses becomes what is accepted. While models get better fast, as in early
rounds, their variance is large and hides increases.
"""

from __future__ import annotations

import numpy as np

from learning.validation.lof import Array
from learning.validation.opinions import ROUNDING, Judge, Opinions, check_minimum, informed
from learning.validation.prediction import scores, threshold
from learning.validation.profiles import Candidates, Histories

SHIFT = 0.1
"""Added to T before the logarithm: models without any increase are common."""


def calibrated(minimum_history: int = 11, false_alarm: float = 0.02) -> Judge:
    """Build the judge that says poisoned in a share ``false_alarm`` of benign rounds.

    ``minimum_history``: accepted models needed; with fewer, every candidate is clean.

    Raises
    ------
    ValueError
        If ``minimum_history`` is below 4: it takes two models for a variance, twice; or if
        ``false_alarm`` is not in (0, 0.5].
    """
    check_minimum(minimum_history, 4, "judge 'calibrated'")
    threshold(2, false_alarm)  # raises if it cannot be

    def judge(profiles: Histories, candidates: Candidates, samples: int) -> Opinions:
        models = np.concatenate([profiles, candidates[:, None]], axis=1)
        logs = np.log(increases(models, profiles.shape[1] // 2, samples) + SHIFT)
        score = scores(logs[:, :-1], logs[:, -1])
        limit = np.full(len(score), threshold(logs.shape[1] - 1, false_alarm))
        return Opinions(score > limit + ROUNDING, score, limit, logs)

    return informed(judge, minimum_history)


def increases(models: Histories, window: int, samples: int) -> Array:
    """Compute T of each of n models after the first w, from (m, n, 2C), as (m, n - w)."""
    share = 1 / samples
    found = []
    for i in range(window, models.shape[1]):
        before = models[:, i - window : i]
        mean = before.mean(axis=1)
        variance = before.var(axis=1, ddof=1) + share * mean + share**2
        rise = np.maximum(models[:, i] - mean, 0)
        found.append(np.sqrt((rise * rise / variance).sum(axis=1)))
    return np.stack(found, axis=1)
