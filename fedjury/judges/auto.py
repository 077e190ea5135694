"""The judge that is BAFFLE's where that can be trusted, and the robust one elsewhere.

A validator counts how many of its change vectors, between the accepted models that it looks back
at, are all zeros. Where most are, ``lof`` finds nearly every other vector odd; where few are, its
threshold is one that about half of all vectors are above. So its share of false alarms is about
that of the vectors that are not all zeros, up to a half (``docs/results/judges-settled.md``). It
judges where that share is small; elsewhere ``robust`` does, whose rate is a setting.
"""

from __future__ import annotations

import numpy as np

from fedjury.judges.judgements import Judge, Judgements, check_minimum, informed, merged
from fedjury.judges.robust import robust
from fedjury.judges.sums import Array
from fedjury.judges.validate import lof
from fedjury.learning.error_profiles import Candidates, Histories, sizes, variations
from fedjury.registry import judge


@judge
def auto(minimum_history: int = 11, zeros: float = 0.95, false_alarm: float = 0.02) -> Judge:
    """Build the judge that is ``lof`` for validators of whose change vectors most are all zeros.

    For the others it is ``robust``. ``minimum_history``: accepted models needed; with fewer,
    every candidate is clean. ``zeros``: the smallest share for ``lof``; ``false_alarm``: of
    ``robust``.

    Raises
    ------
    ValueError
        If ``minimum_history`` is below 3, ``zeros`` is not 0 to 1, or ``false_alarm`` is not in
        (0, 0.5].
    """
    check_minimum(minimum_history, 3, "judge 'auto'")
    if not 0 <= zeros <= 1:
        raise ValueError(f"zeros must be 0 to 1, not {zeros}")
    published, ours = lof(minimum_history), robust(minimum_history, false_alarm)

    def judge(profiles: Histories, candidates: Candidates) -> Judgements:
        result = ours(profiles, candidates)
        still = still_share(profiles) >= zeros
        if not still.any():
            return result
        found = published(profiles[still], candidates[still])
        # One judge's evidence cannot stand beside another's, and the robust one has none.
        found = found._replace(evidence=result.evidence[still])
        return merged(result.of(~still), found, still)

    return informed(judge, minimum_history)


def still_share(profiles: Histories) -> Array:
    """Return the share of each validator's change vectors that are all zeros, (m,)."""
    share: Array = np.mean(sizes(variations(profiles)) == 0, axis=1)
    return share
