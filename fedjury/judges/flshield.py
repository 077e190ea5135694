"""A judge of groups by their worst class: what is worse than the median is voted down (FLShield).

FLShield (Kabir et al., IEEE S&P 2024). With L_c the mean loss of the accepted model on a
validator's samples of class c, and L_gc that of the candidate of group g,

    LIPC_gc = L_c - L_gc        (loss improvement, per class and per example)
    score_g = - min over c of LIPC_gc

so that the score is how much the loss of the worst class rises. The threshold is the median of the
scores of the groups that the validator judged; poisoned is what is above it. A tie is no poison.

**What differs from the paper.** There the server has all validators' LIPC: it imputes those of
classes that a validator lacks from the others', leaves out validators whose reports are in the
minority, and drops the worse half of the candidates. Here a validator votes by the classes that it
holds, its vote is one among the others, and a quorum decides; nothing is imputed. A class of a
single sample counts as much as one of a hundred.

**Where it is weak.** It drops nearly half of the groups of *every* round, benign rounds too. One
group alone it never drops. Where more than half of the groups are poisoned, the median is too.

Losses are numbers with fractions: two machines may differ in the last digits, and so, where groups
are nearly equal, in a verdict.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.judges.group_judges import GroupJudge, Measured
from fedjury.judges.judgements import ROUNDING, Judgements
from fedjury.judges.sums import Array
from fedjury.registry import group_judge

LARGEST = 1e6
"""A mean loss that is larger, or no number, counts as this: votes carry finite numbers."""


@group_judge
def flshield() -> GroupJudge:
    """Build the judge that votes down the groups whose worst class is worse than the median."""
    return votes


def lipc(before: Array, after: Array, counts: npt.NDArray[np.int64]) -> Array:
    """Return what each class's mean loss falls by, (m, G, C), from (m, C) to (m, G, C).

    Infinite for classes of which a validator has no samples, ``counts`` (m, C): never the worst.
    """
    fall = _bounded(before)[:, np.newaxis] - _bounded(after)
    return np.where(counts[:, np.newaxis] > 0, fall, np.inf)


def votes(measured: Measured) -> Judgements:
    """Return the verdicts (m, G) of m validators on G groups each; without samples all is clean."""
    score = -lipc(*measured).min(axis=2, initial=np.inf)
    score[np.isneginf(score)] = 0
    groups = score.shape[1]
    limit = np.median(score, axis=1, keepdims=True) if groups else np.zeros((len(score), 1))
    threshold = np.repeat(limit, groups, axis=1)
    poisoned = score > threshold + ROUNDING * np.maximum(1, np.abs(threshold))
    return Judgements(poisoned, score, threshold, np.zeros((*score.shape, 0)))


def _bounded(losses: Array) -> Array:
    return np.nan_to_num(losses, nan=LARGEST, posinf=LARGEST, neginf=-LARGEST).clip(
        -LARGEST, LARGEST
    )
