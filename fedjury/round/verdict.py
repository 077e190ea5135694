"""The feedback loop's last word: the votes on a candidate become accept or reject.

BAFFLE (Andreina et al., ICDCS 2021): the candidate is rejected if at least q validators call it
poisoned, and accepted only if enough recommend it. So silence is no consent: without a least number
of votes a candidate is not accepted. Beside counting heads there is our own way, to add up what the
validators saw.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from fedjury.judges import prediction, sums
from fedjury.judges.judgements import ROUNDING
from fedjury.protocol.messages import Vote


def refusals(counts: Mapping[str, int]) -> str:
    """Return how many messages were refused and why, as people read it: "800 not finite"."""
    return ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in sorted(counts.items()))


class Verdict(NamedTuple):
    """How many validators said what."""

    poisoned: int
    clean: int
    silent: int

    def __str__(self) -> str:
        """Return it as people read it everywhere: "2 poisoned, 0 clean, 8 silent"."""
        return ", ".join(f"{number:,} {text}" for text, number in self._asdict().items())


def accepts(verdict: Verdict, quorum: int) -> bool:
    """Return whether a candidate passes: fewer than ``quorum`` validators call it poisoned."""
    return verdict.poisoned < quorum


def too_few(verdict: Verdict, asked: int, min_votes: int = 0) -> str:
    """Return why these votes of ``asked`` are too few to accept a candidate; empty if they are not.

    ``min_votes``: how many must come; 0: most of those asked.
    """
    came, least = verdict.poisoned + verdict.clean, min(min_votes or asked // 2 + 1, asked)
    return f"{TOO_FEW}: {came} of {asked} came, {least} are needed" if came < least else ""


def count(votes: Iterable[Vote], selected: int) -> Verdict:
    """Count the votes of ``selected`` validators; who has not voted is silent."""
    message = [vote.poisoned for vote in votes]
    return Verdict(sum(message), len(message) - sum(message), selected - len(message))


def blind(samples: int, classes: int, asked: int, quorum: int) -> str:
    """Return that validators hold too few samples to see a backdoor in one class; "" if enough.

    A validator with ``samples`` of ``classes`` equally frequent ones holds any of a given class
    with a probability of 1 - (1 - 1 / classes)^samples; who holds none cannot see what befalls it.
    """
    holders = asked * (1 - (1 - 1 / classes) ** samples)
    if holders >= quorum:
        return ""
    return (
        f"validators cannot see a backdoor in one class: with {samples:,} "
        f"sample{'s' * (samples != 1)} each (the median) about {holders:.0f} of {asked:,} hold any "
        f'of that class, and {quorum:,} must say "poisoned"; fewer agents with more data each '
        "(--n, --samples) can see it"
    )


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


def bound(voters: int, errs: float) -> float:
    """Return how many liars are too many for ``voters``: (1 - r) n / (2 - r).

    ``errs``: r, the share of honest validators who judge wrongly (section IV-B of the paper).
    """
    return (1 - errs) * voters / (2 - errs)


def safe_quorums(voters: int, malicious: int, errs: float) -> range:
    """Return the quorums q that are safe: n_M < q <= (1 - r)(n - n_M); it may be none.

    There is none for as many liars as ``bound``, and sometimes, as q is whole, for fewer. Fewer
    votes, and the liars alone reject every candidate; more, and the honest validators who judge
    rightly cannot reject one.
    """
    right = (1 - errs) * (voters - malicious) + ROUNDING  # (1 - 0.4) * 10 is a little less than 6
    return range(malicious + 1, math.floor(right) + 1)


def advice(voters: int, malicious: int, errs: float, quorum: int) -> list[str]:
    """Tell people which quorums are safe, and whether theirs is; one line each."""
    safe = safe_quorums(voters, malicious, errs)
    text = f"{safe[0]} to {safe[-1]}" if safe else "none"
    told = (
        f"{voters} voters, {malicious} of them liars (validation.tolerated_malicious), {errs:.0%} "
        f"of the others "
        f"wrong: safe quorums: {text}; the bound is fewer than {bound(voters, errs):.2f} liars"
    )
    lines = [told]
    if quorum not in safe:
        lines.append(f"warning: the quorum {quorum} is not safe against that")
    return lines


VOTED_DOWN = "voted down"
"""Why a candidate is not accepted that its validators call poisoned."""

TOO_FEW = "too few votes"
"""How the reason begins why a candidate is not accepted on which too few have voted."""

LEAST_EVIDENCE = 3
"""Two accepted models and the candidate: fewer say nothing of how they vary."""
