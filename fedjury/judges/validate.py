"""VALIDATE, the judge of BAFFLE (Andreina et al., ICDCS 2021).

With v_1 … v_l the variations between consecutive accepted models and v_new that from the last
of them to the candidate:

    k = ceil(l / 2)
    τ = mean LOF_k of the last floor(l / 4) of v_1 … v_l, at least of one
    φ = LOF_k of v_new against v_1 … v_l
    poisoned if φ > τ

The paper does not say against what the trusted variations are scored: see ``readings``.
"""

from __future__ import annotations

import numpy as np

from fedjury.judges.judgements import ROUNDING, Judge, Judgements, check_minimum, informed
from fedjury.judges.lof import squares
from fedjury.judges.lof_variants import LOF_VARIANTS
from fedjury.judges.sums import mean
from fedjury.learning.error_profiles import Candidates, Histories, variations
from fedjury.registry import judge, unknown


@judge
def lof(minimum_history: int = 11, reading: str = "A") -> Judge:
    """Build the judge that asks whether the candidate's variation is a local outlier.

    ``minimum_history``: accepted models needed; with fewer, every candidate is clean. The
    default, 11, allows for l = 10, the shortest look-back of the paper. ``reading``: A, B, C or
    D, against what the trusted variations are scored.

    Raises
    ------
    ValueError
        If there is no such reading, or if ``minimum_history`` is below 3, for B and C below 4:
        they have too few points to compare with.
    """
    if reading not in LOF_VARIANTS:
        raise unknown("reading of judge 'lof'", reading, LOF_VARIANTS)
    read = LOF_VARIANTS[reading]
    check_minimum(minimum_history, read.least + 1, f"reading {reading} of judge 'lof'")

    def judge(profiles: Histories, candidates: Candidates) -> Judgements:
        models = np.concatenate([profiles, candidates[:, None]], axis=1)
        scores = read.scores(squares(variations(models)))
        threshold = mean(scores.trusted)
        evidence = np.log(np.column_stack([scores.trusted, scores.new]))
        return Judgements(scores.new > threshold * (1 + ROUNDING), scores.new, threshold, evidence)

    return informed(judge, minimum_history)
