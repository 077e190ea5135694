"""The feedback loop's last word: the votes on a candidate become accept or reject.

BAFFLE (Andreina et al., ICDCS 2021): the candidate is rejected if at least q validators call it
poisoned. Who says nothing is no obstacle. Beside counting heads there is our own way, to add up
what the votes say of how sure they are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

from protocol.messages import Vote


class Verdict(NamedTuple):
    """How many validators said what."""

    poisoned: int
    clean: int
    silent: int


def accepts(said: Verdict, quorum: int) -> bool:
    """Say whether a candidate passes: fewer than ``quorum`` validators call it poisoned."""
    return said.poisoned < quorum


def count(votes: Iterable[Vote], called: int) -> Verdict:
    """Count the votes of ``called`` validators; who has not voted is silent."""
    said = [vote.poisoned for vote in votes]
    return Verdict(sum(said), len(said) - sum(said), called - len(said))


def evidence(votes: Collection[Vote], liars: int) -> float | None:
    """Return the trimmed mean of score minus threshold: above 0, the candidate is rejected.

    The ``liars`` largest and smallest are left out (Yin et al., ICML 2018), so that many liars
    cannot push it beyond what some honest validator says. None if nobody is left.
    """
    margins = sorted(vote.score - vote.threshold for vote in votes)
    kept = margins[liars : len(margins) - liars]
    return math.fsum(kept) / len(kept) if kept else None


def tolerated(voters: int, errs: float) -> int:
    """Return the most liars that ``voters`` withstand: n_M < (1 - r) n / (2 - r).

    ``errs``: r, the share of honest validators who judge wrongly (section IV-B of the paper).
    """
    return max(0, math.ceil((1 - errs) * voters / (2 - errs) - ROUNDING) - 1)


def safe_quorums(voters: int, liars: int, errs: float) -> range:
    """Return the quorums q that are safe: n_M < q <= (1 - r)(n - n_M); it may be none.

    Fewer, and the liars alone reject every candidate; more, and the honest validators who judge
    rightly cannot reject one.
    """
    return range(liars + 1, math.floor((1 - errs) * (voters - liars) + ROUNDING) + 1)


def advice(voters: int, liars: int, errs: float, quorum: int) -> list[str]:
    """Tell people which quorums are safe, and whether theirs is; one line each."""
    safe = safe_quorums(voters, liars, errs)
    said = f"{safe[0]} to {safe[-1]}" if safe else "none"
    told = (
        f"{voters} voters, {liars} of them liars, {errs:.0%} of the others wrong: safe quorums: "
        f"{said}; as many as {tolerated(voters, errs)} liars can be withstood"
    )
    lines = [told]
    if quorum not in safe:
        lines.append(f"warning: the quorum {quorum} is not safe against that")
    return lines


ROUNDING = 1e-9
"""(1 - 0.4) * 10 is a little less than 6."""
