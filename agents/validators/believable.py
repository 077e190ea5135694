"""Numbers for a vote that is not what a judge found: those of a candidate that it would find so.

Score, threshold and evidence of an honest vote hang together: a threshold comes of the accepted
models alone, the score is the last of the evidence in other units. Numbers that were merely changed
give a liar away. So a liar makes up the candidate instead: it takes the errors of the accepted
models, which it has counted or made up too, and asks the judge about candidates until one is judged
as it wants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from learning.validation.opinions import Judge, Opinions, merged, no_opinion
from learning.validation.profiles import Histories, Profile

Verdicts = npt.NDArray[np.bool_]
"""(m,): whether each of m validators says "poisoned"."""

Rngs = Sequence[np.random.Generator]

TRIES = 24
"""Candidates that a liar makes up at the most; the last is an unchanged model, or a ruined one."""


def believable(judge: Judge, accepted: Histories, wanted: Verdicts, rngs: Rngs) -> Opinions:
    """Return opinions of m validators with these verdicts (m,), as the judge would give them.

    ``accepted``: (m, l+1, 2C), what each has found in the accepted models. Where the judge never
    says what is wanted (it calls everything clean while the history is short), a score is raised
    or lowered. ``rngs``: one of each.
    """
    found = no_opinion(0)
    left = np.ones(len(wanted), dtype=np.bool_)
    for tried in range(TRIES):
        rows = [_candidate(accepted[i], bool(wanted[i]), tried, rngs[i]) for i in _places(left)]
        if not rows:
            return found
        opinions = judge(accepted[left], np.stack(rows))
        found = merged(found.of(~left), opinions, left) if tried else opinions
        left = found.poisoned != wanted
    return _forced(found, wanted, rngs)


def _places(chosen: Verdicts) -> list[int]:
    return [int(place) for place in np.flatnonzero(chosen)]


def _candidate(
    accepted: npt.NDArray[np.int64], poisoned: bool, tried: int, rng: np.random.Generator
) -> Profile:
    """Make up the errors (2C,) of a candidate after accepted models with these (l+1, 2C)."""
    last: Profile = accepted[-1]
    if poisoned:
        return _backdoored(last, tried, rng)
    if tried == TRIES - 1 or len(accepted) < 2:
        return last
    steps = np.diff(accepted, axis=0)
    recent = steps[len(steps) // 2 :]
    one, other = recent[rng.integers(len(recent), size=2)]
    found: Profile = np.maximum(last + np.where(rng.random(len(last)) < 0.5, one, other), 0)
    return found


def _backdoored(last: Profile, tried: int, rng: np.random.Generator) -> Profile:
    """Add errors of one class that is called another; at each try about a third more."""
    found = last.copy()
    classes = len(last) // 2
    source, target = rng.integers(classes, size=2)
    found[[source, classes + target]] += int(np.ceil(rng.uniform(1, 2) * 1.33**tried))
    return found


def _forced(found: Opinions, wanted: Verdicts, rngs: Rngs) -> Opinions:
    """Move the scores that do not fit the verdicts to the other side of their thresholds."""
    score, evidence = found.score.copy(), found.evidence.copy()
    for i in _places(found.poisoned != wanted):
        away = (abs(found.threshold[i]) + 1) * rngs[i].uniform(0.05, 1)
        score[i] = found.threshold[i] + (away if wanted[i] else -away / 10)
        past = evidence[i, :-1]
        if past.size:
            evidence[i, -1] = past.max() + np.ptp(past) + away if wanted[i] else past.mean()
    return Opinions(wanted, score, found.threshold, evidence)
