"""One judgement of what many validators counted, of whom some may lie about any of their counts.

Of v validators at most t lie. Validator i counts p[i, k, c] errors of kind c in n models, the
candidate last. What it says of a model is how far that rises above what is usual for it, in units
of how far the others do:

    usual[i, c]   = lower median of p[i, :, c]      rise[i, k, c] = p[i, k, c] - usual[i, c]
    unit[i, k, c] = sqrt(1 + mean of rise[i, j, c]² over the n - 1 models j other than k)
    z[i, k, c]    = rise[i, k, c] / unit[i, k, c]

1. *Accusers*: for each c, the t validators with the largest z of the candidate are left out, with
   all that they counted of c, in the accepted models as well. The other z are held between -6
   and 6.
2. *Hiders*: of the other v - t, in each model and c the t smallest z are left out.
3. The v - 2t that are left are added up, and put back into counts by what is usual: with u and s
   the mean usual, and unit of the candidate, of all validators without the t largest and the t
   smallest, the pooled count is (v - 2t) u + s * sum of z, at least 0. It is judged as one
   validator's.

With t = 0 counts are simply added up.

**Bounds** (as of a trimmed mean: Yin et al., ICML 2018). An honest validator's z depend on its own
counts alone. Of the t + j smallest values of anything at most t are liars', so the (t + j)-th
smallest is at least the j-th smallest honest one, and the same from above. Hence, whatever liars
claim of any model,

- the candidate's sum of z, ranks t + 1 to v - t, lies between the sum of the v - 2t smallest and
  that of the v - 2t largest honest ones, and so do u and s between honest ones;
- an accepted model's sum is at least that of the v - 2t smallest honest ones, and at most 6 t more
  than that of the v - 3t largest. Liars who claim a wild past do not get far with it: who claims
  much of a share s of the models has a z of about 1 / sqrt(s) in these.

**False alarms.** If t liars claim so many errors that they are the accusers, all that is left is
honest, and the candidate's sum is made as those of the accepted models are, of the same validators:
the judge's own rate of false alarms holds. If honest validators are the accusers, the candidate's
sum is the smaller for it: that errs on the side of accepting.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.judges.judgements import Judge, Judgements
from fedjury.learning.error_profiles import BINS, Histories
from fedjury.protocol.counts import unpacked
from fedjury.protocol.messages import Reason, Update, Vote
from fedjury.protocol.pooled import Pooled
from fedjury.registry.faults import PluginError, Tell

MOST = 10_000_000
"""Largest pooled count: judges square whole numbers, and claims of liars must not overflow."""

FARTHEST = 6.0
"""The z of a model that is farther from usual, in either direction."""

Array = npt.NDArray[np.float64]


def pooled(models: Histories, malicious: int) -> Histories:
    """Pool what v validators counted of n models, (v, n, 2C), as one validator's (1, n, 2C).

    ``malicious``: t, how many of them may lie.

    Raises
    ------
    ValueError
        If there are no more than 2t.
    """
    if len(models) <= 2 * malicious:
        raise ValueError(f"of {len(models)} validators {malicious} may lie: nothing can be pooled")
    if not malicious:
        counts: Array = models.sum(axis=0).astype(np.float64)
    else:
        usual, unit, z = standardised(models)
        level, units = trimmed(usual, malicious).sum(axis=0), trimmed(unit, malicious).mean(axis=0)
        counts = np.rint(level + sums_of_rises(z, malicious) * units)
    result: Histories = np.clip(counts, 0, MOST).astype(np.int64)[np.newaxis]
    return result


class Standardised(NamedTuple):
    """What v validators counted, each in units of its own."""

    usual: Array
    """(v, 2C)"""
    unit: Array
    """(v, 2C): that of the candidate."""
    z: Array
    """(v, n, 2C)"""


def standardised(models: Histories) -> Standardised:
    """Return what is usual for each validator, its unit, and how far each model rises in units."""
    before = models.shape[1] - 1
    usual = np.sort(models, axis=1)[:, before // 2].astype(np.float64)
    rise = models - usual[:, np.newaxis]
    squares = rise * rise
    others = squares.sum(axis=1, keepdims=True) - squares
    unit = np.sqrt(1 + others / before)
    return Standardised(usual, unit[:, -1], rise / unit)


def sums_of_rises(z: Array, malicious: int) -> Array:
    """Add up z (v, n, 2C) without accusers and hiders, as (n, 2C)."""
    accusers_first = np.argsort(-z[:, -1], axis=0, kind="stable")
    others = accusers_first[malicious:, np.newaxis]
    left = np.take_along_axis(z, others, axis=0).clip(-FARTHEST, FARTHEST)
    result: Array = np.sort(left, axis=0)[malicious:].sum(axis=0)
    return result


def trimmed(values: Array, left_out: int) -> Array:
    """Return values (v, 2C) in order, without so many of the smallest and of the largest."""
    return np.sort(values, axis=0)[left_out : len(values) - left_out]


def judged_once(judge: Judge, models: Histories, malicious: int) -> Judgements:
    """Ask a judge once about what v validators counted of n models, (v, n, 2C), the newest last."""
    together = pooled(models, malicious)
    return judge(together[:, :-1], together[:, -1])


class Pool(NamedTuple):
    """How the server judges once what its validators counted."""

    judge: Judge
    malicious: int
    """t: how many of those whose counts are pooled may lie."""
    look_back: int
    """l: they count in the last l + 1 accepted models, as far as there are so many."""
    history: int
    """Accepted models that the judge needs."""
    most: int
    """Numbers that the counts of one validator hold at the most."""
    tell: Tell = lambda _text, _kind: None
    """Told why nothing is pooled though it was to be."""

    def models(self, version: int) -> int:
        """Return in how many models a validator counts after this accepted version."""
        return min(version, self.look_back) + 2

    def refusal(self, answer: Vote | Update, version: int) -> Reason | None:
        """Return what is wrong with the counts of a vote, or of an update that is one; else None.

        An update says on how many samples its sender trained, which need not be those it judged on.
        """
        counts = unpacked(answer.counts)
        if len(counts) % self.models(version):
            return Reason.WRONG_LENGTH
        if isinstance(answer, Vote) and counts.size and counts.max() > answer.samples:
            return Reason.OUT_OF_RANGE
        return None

    def judged(self, votes: Collection[Vote], version: int) -> Pooled | None:
        """Judge what these votes hold; None where it is too little for a judgement of its own.

        That is while the history is short, or with counts of 2t validators or fewer. Those who
        count other kinds of errors than most are left out.
        """
        models = self.models(version)
        rows = [row for row in (unpacked(vote.counts) for vote in votes) if row.size]
        length = statistics.mode([len(row) for row in rows] or [0])
        rows = [row for row in rows if len(row) == length]
        if not self.enough(version) or len(rows) <= 2 * self.malicious or length % models:
            return None
        counts = np.stack(rows).reshape(len(rows), models, -1)
        try:
            found = judged_once(self.judge, counts, self.malicious)
        except PluginError as why:
            self.tell(f"{why}; the quorum decides where it fails", "judge")
            return None
        score, threshold = (round(float(part[0]), 6) for part in found[1:3])
        return Pooled(bool(found.poisoned[0]), score, threshold, len(rows), self.malicious)

    @property
    def kinds(self) -> int:
        """Kinds of errors, 2C: of numbers the most there can be."""
        return self.most // (self.look_back + 2)

    @property
    def groups(self) -> int:
        """Sums of counts, at the least, so that most are of honest validators alone."""
        return 2 * self.malicious + 1

    def enough(self, version: int) -> bool:
        """Return whether there is history enough to judge, after this accepted version."""
        return self.models(version) > self.history

    def judged_sums(self, sums: npt.NDArray[np.int64], people: int, version: int) -> Pooled | None:
        """Judge what groups of validators counted together, (G, n * 2C); None as ``judged``.

        Most groups decide. Nothing can be trimmed within a sum, and one liar spoils that of its
        group; t liars spoil at most t groups. So while there are more than 2t of them the verdict
        is one that at least one group without a liar gives, and if these agree it is theirs.
        ``people``: how many validators they are. The score is that of the group in the middle.
        """
        if not self.enough(version) or len(sums) <= 2 * self.malicious:
            return None
        models = np.minimum(sums, MOST).reshape(len(sums), self.models(version), -1)
        try:
            found = self.judge(models[:, :-1], models[:, -1])
        except PluginError as why:
            self.tell(f"{why}; the quorum decides where it fails", "judge")
            return None
        over = np.asarray(found.score) - np.asarray(found.threshold)
        middle = int(np.argsort(over, kind="stable")[(len(over) - 1) // 2])
        score, threshold = (round(float(part[middle]), 6) for part in found[1:3])
        poisoned = 2 * int(found.poisoned.sum()) > len(sums)
        return Pooled(poisoned, score, threshold, people, self.malicious, len(sums))


def most_counts(look_back: int, classes: int) -> int:
    """Return how many numbers a validator's counts hold at the most; ``classes``: 0 if unknown."""
    return (look_back + 2) * 2 * (classes or BINS)
