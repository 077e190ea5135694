"""A judge whose rate of false alarms is a setting. Ours, beside VALIDATE; not from a paper.

With p_0 … p_l the profiles of the L = l + 1 accepted models, oldest first, and w = floor(L / 2),
the increase T of a model over the w models before it is the length of what its class-wise errors
rose by, in units of what they vary by. For each error, with mean μ and variance σ² over the w
models (by w - 1):

    z = (p - μ) / √(σ² + μ + 1)          T = √ Σ max(z, 0)²

μ is the variance of a count of rare errors (Poisson's); 1 keeps the variance positive where nothing
ever changed. Falling errors count as none. With S the sum and Q the sum of the squares of the w
counts, z² is one quotient of whole numbers, so that equal histories give equal numbers whatever the
machine:

    A = max(w p - S, 0)    B = w Q - S² + (w - 1) (S + w)    z² = (w - 1) A² / (w B)

The newer accepted models were candidates once, and they were benign: x_i = log(T_i + 0.1) for
i = w … l, rounded to float32 as votes carry them (the last bit of a logarithm differs between
libraries), are N = L - w draws of a normal distribution, with mean m and standard deviation s (by
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

from fedjury.judges.judgements import ROUNDING, Judge, Judgements, check_minimum, informed
from fedjury.judges.prediction import scores, threshold
from fedjury.judges.sums import Array, in_order
from fedjury.learning.error_profiles import Candidates, Histories
from fedjury.registry import judge

SHIFT = 0.1
"""Added to T before the logarithm: models without any increase are common."""


@judge
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

    def judge(profiles: Histories, candidates: Candidates) -> Judgements:
        models = np.concatenate([profiles, candidates[:, None]], axis=1)
        logs = np.log(increases(models, profiles.shape[1] // 2) + SHIFT)
        logs = logs.astype(np.float32).astype(np.float64)
        score = scores(logs[:, :-1], logs[:, -1])
        limit = np.full(len(score), threshold(logs.shape[1] - 1, false_alarm))
        return Judgements(score > limit + ROUNDING, score, limit, logs)

    return informed(judge, minimum_history)


def increases(models: Histories, w: int) -> Array:
    """Compute T of each of n models after the first w, from (m, n, 2C), as (m, n - w).

    Exact up to the quotients while w |D| is below 3 * 10⁹.
    """
    result = []
    for i in range(w, models.shape[1]):
        before = models[:, i - w : i]
        total, squares = before.sum(axis=1), (before * before).sum(axis=1)
        rise = np.maximum(w * models[:, i] - total, 0)
        spread = w * squares - total * total + (w - 1) * (total + w)
        result.append(np.sqrt((w - 1) * in_order(rise * rise / spread) / w))
    return np.stack(result, axis=1)
