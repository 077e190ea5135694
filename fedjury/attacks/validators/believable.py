"""Numbers for a vote that is not what a judge found: those of a candidate that it would find so.

Score, threshold and evidence of an honest vote are related: the threshold depends only on the
accepted models, and the score is the last number of the evidence in other units. Merely changing
numbers would give a malicious validator away. So it makes up a candidate instead: it takes the
errors of the accepted models, which it has counted or made up too, and asks the judge about
invented candidates until one is judged as it wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.judges.judgements import Judge, Judgements, merged, no_judgement
from fedjury.learning.error_profiles import Histories, Profile

Verdicts = npt.NDArray[np.bool_]
"""(m,): whether each of m validators says "poisoned"."""

Counts = npt.NDArray[np.int64]
"""(l+1, 2C): the errors that one validator has counted, or made up, of the accepted models."""

Samples = npt.NDArray[np.int64]
"""(m,)"""

Rngs = Sequence[np.random.Generator]

TRIES = 24
"""The most candidates that a malicious validator makes up."""

STEADY = 12
"""Of which so many come after the accepted models as they are.

After some histories ``lof`` finds every candidate poisoned: its threshold is less than any score.
Then the errors of the accepted models are shuffled, to tell of another history.
"""


class Believable(NamedTuple):
    """What m validators say that lie."""

    judgements: Judgements
    models: Histories
    """(m, l+2, 2C): errors of the accepted models and of a candidate of which a judge says that."""


def believable(
    judge: Judge, accepted: Histories, wanted: Verdicts, rngs: Rngs, samples: Samples | int
) -> Believable:
    """Return opinions of m validators with these verdicts (m,), as the judge would give them.

    ``accepted``: (m, l+1, 2C), what each has found in the accepted models, or made up. Where the
    judge never says what is wanted (it calls everything clean while the history is short), a score
    is raised or lowered. ``rngs``: one of each; ``samples`` (m,): how many each holds.
    """
    held = np.broadcast_to(samples, len(wanted))
    result = no_judgement(0)
    left = np.ones(len(wanted), dtype=np.bool_)
    past = accepted.copy()
    built = past[:, -1].copy()
    for tried in range(TRIES):
        if not left.any():
            break
        for i in _places(left):
            if tried >= STEADY:
                rngs[i].shuffle(past[i])
            built[i] = past[i, -1] + (
                _backdoor(past[i, -1], held[i] * 1.33**tried, rngs[i])
                if wanted[i]
                else _harmless(past[i], rngs[i])
            )
        opinions = judge(past[left], built[left])
        result = merged(result.of(~left), opinions, left) if tried else opinions
        left = result.poisoned != wanted
    models = np.concatenate([past, built[:, np.newaxis]], axis=1)
    return Believable(_forced(result, wanted, rngs), models)


def _places(chosen: Verdicts) -> list[int]:
    return [int(place) for place in np.flatnonzero(chosen)]


def _harmless(accepted: Counts, rng: np.random.Generator) -> Profile:
    """Make up a change (2C,) as between two of the latest half of the models, mixed of two such."""
    steps = np.diff(accepted, axis=0)[::-1]
    none: Profile = np.zeros_like(accepted[-1])
    if not len(steps):
        return none
    one, other = steps[rng.integers(len(steps) // 2 + 1, size=2)]
    step = np.where(rng.random(len(none)) < 0.5, one, other)
    result: Profile = np.maximum(step, -accepted[-1])  # there are no errors below none
    return result


def _backdoor(last: Profile, samples: float, rng: np.random.Generator) -> Profile:
    """Make up a change (2C,): of one class of so many samples a good part is called another."""
    result: Profile = np.zeros_like(last)
    classes = len(last) // 2
    source, target = rng.integers(classes, size=2)
    result[[source, classes + target]] = int(np.ceil(rng.uniform(0.3, 1) * samples / classes))
    return result


def _forced(result: Judgements, wanted: Verdicts, rngs: Rngs) -> Judgements:
    """Move the scores that do not fit the verdicts to the other side of their thresholds."""
    score, evidence = result.score.copy(), result.evidence.copy()
    for i in _places(result.poisoned != wanted):
        away = (abs(result.threshold[i]) + 1) * rngs[i].uniform(0.05, 1)
        score[i] = result.threshold[i] + (away if wanted[i] else -away / 10)
        past = evidence[i, :-1]
        if past.size:
            evidence[i, -1] = past.max() + np.ptp(past) + away if wanted[i] else past.mean()
    return Judgements(wanted, score, result.threshold, evidence)
