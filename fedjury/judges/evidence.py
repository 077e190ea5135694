"""Our own way to decide by votes: to add up what validators saw, instead of counting heads."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection

import numpy as np

from fedjury.judges import prediction, sums
from fedjury.judges.judgements import ROUNDING
from fedjury.protocol.messages import Vote

LEAST_EVIDENCE = 3
"""Two accepted models and the candidate: fewer say nothing of how they vary."""


def evidence(votes: Collection[Vote], malicious: int, false_alarm: float) -> float | None:
    """Add up what validators saw: above 0, the candidate is rejected. None if nobody saw enough.

    Each vote holds what its judge measured of N accepted models and of the candidate, here in
    units of how its own N vary. The ``malicious`` votes that speak most for and most against the
    candidate are left out (as in a trimmed mean: Yin et al., ICML 2018), but never all. The rest is
    averaged model by model. How the averages of the accepted models vary says what is usual: the
    result is how far that of the candidate exceeds what the next one would with a probability of
    ``false_alarm``.
    """
    rows = [np.frombuffer(vote.evidence, "<f4").astype(np.float64) for vote in votes]
    length = statistics.mode([len(row) for row in rows] or [0])
    if length < LEAST_EVIDENCE:
        return None
    seen = prediction.standardised(np.stack([row for row in rows if len(row) == length]))
    excluded = min(malicious, (len(seen) - 1) // 2)
    # By what they say of the candidate, and of equals by the rest; rounding makes none unequal.
    order = np.lexsort(np.rint(seen / ROUNDING).T)
    mean = sums.mean(seen[order[excluded : len(seen) - excluded]].T)
    # Averages of independent votes vary by that; less is chance, or a history that stood still.
    least = 1 / math.sqrt(len(seen) - 2 * excluded)
    score = prediction.scores(mean[np.newaxis, :-1], mean[-1:], least)
    excess = float(score[0]) - prediction.threshold(length - 1, false_alarm)
    return excess if abs(excess) > ROUNDING else 0.0
