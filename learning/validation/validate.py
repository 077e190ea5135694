"""VALIDATE, the judge of BAFFLE (Andreina et al., ICDCS 2021).

With v_1 … v_l the variations between consecutive accepted models and v_new that from the last
of them to the candidate:

    k = ceil(l / 2)
    τ = mean LOF_k of the last floor(l / 4) of v_1 … v_l, at least of one
    φ = LOF_k of v_new against v_1 … v_l
    poisoned if φ > τ

The paper does not say against what the trusted variations are scored. This is reading A: each is
scored among the other l - 1, and v_new as a newcomer. The other readings are not built yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from learning.validation.lof import local_outlier_factors, novelty_factors
from learning.validation.profiles import Profile, Profiles, variations

ROUNDING = 1e-9
"""Relative: scores that differ by less are equal. A tie is not an outlier."""


class Opinion(NamedTuple):
    """What a judge thinks of a candidate: poisoned if the score is above the threshold."""

    poisoned: bool
    score: float
    threshold: float


NO_OPINION = Opinion(poisoned=False, score=0.0, threshold=0.0)
"""Of a judge that knows too little; zeros, because inf does not travel in JSON."""

Judge = Callable[[Profiles, Profile, int], Opinion]
"""(profiles (l+1, 2C) of accepted models, oldest first, that of the candidate (2C,), |D|)."""


def lof(minimum_history: int = 11) -> Judge:
    """Build the judge that asks whether the candidate's variation is a local outlier.

    ``minimum_history``: accepted models needed; with fewer, every candidate is clean. The
    default, 11, allows for l = 10, the shortest look-back of the paper.

    Raises
    ------
    ValueError
        If it is below 3: it takes two variations to have a neighbour.
    """
    if minimum_history < 3:
        raise ValueError(f"minimum_history must be 3 models at least, not {minimum_history}")

    def judge(profiles: Profiles, candidate: Profile, samples: int) -> Opinion:
        if len(profiles) < minimum_history:
            return NO_OPINION
        accepted = variations(profiles)
        new = variations(np.stack([profiles[-1], candidate]))
        k, trusted = neighbours(len(accepted)), trusted_count(len(accepted))
        scores = local_outlier_factors(accepted, k, floor=1 / samples)
        threshold = float(scores[-trusted:].mean())
        score = float(novelty_factors(new, accepted, k, floor=1 / samples)[0])
        return Opinion(score > threshold * (1 + ROUNDING), score, threshold)

    return judge


def neighbours(points: int) -> int:
    """Say how many neighbours k a point has among l variations: half of them, rounded up."""
    return (points + 1) // 2


def trusted_count(points: int) -> int:
    """Say how many of the latest of l variations make the threshold: a quarter, at least one."""
    return max(1, points // 4)
