"""What people should know of a jury: which quorums are safe, and what validators cannot see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from fedjury.judges.judgements import ROUNDING
from fedjury.protocol.record import Votes

ENOUGH = 5
"""Rounds that were voted on before anything is said of the judge."""

STILL = 0.8
"""Share of zero change vectors from which on a quorum of validators with ``lof`` does no harm."""


def blind(samples: int, classes: int, asked: int, quorum: int) -> str:
    """Return that validators hold too few samples to see a backdoor in one class; "" if enough.

    A validator with ``samples`` of ``classes`` equally frequent ones holds any of a given class
    with a probability of 1 - (1 - 1 / classes)^samples; who holds none cannot see what befalls it.
    """
    if not classes:
        return ""
    holders = asked * (1 - (1 - 1 / classes) ** samples)
    if holders >= quorum:
        return ""
    return (
        f"validators cannot see a backdoor in one class: with {samples:,} "
        f"sample{'s' * (samples != 1)} each (the median) about {holders:.0f} of {asked:,} hold any "
        f'of that class, and {quorum:,} must say "poisoned"; fewer agents with more data each '
        "(--n, --samples) can see it"
    )


SEEING = 100
"""Samples of the median voter from which on the robust judge sees more than ``lof`` does."""


def still_share(votes: Votes) -> float | None:
    """Return the share of zero change vectors of a vote that says something of its judge.

    It is None where voters hold so few samples that there is no better judge than ``lof``.
    """
    return votes.zero_changes if (votes.median_samples or 0) >= SEEING else None


def untrusted(judge: str, told: Sequence[float]) -> str:
    """Return that BAFFLE's judge is not to be trusted where many error counts change; "" if it is.

    ``told``: the share of zero change vectors in each round that was voted on. A validator calls
    about as many good candidates poisoned as its vectors are not all zeros, up to every second
    (``docs/results/judges-settled.md``).
    """
    if judge != "lof" or len(told) < ENOUGH or fmean(told) >= STILL:
        return ""
    zeros = fmean(told)
    often = "every second" if zeros <= 1 / 2 else f"up to {1 - zeros:.0%} of"
    return (
        f"judge lof is not to be trusted here: {zeros:.0%} of the change vectors are all zeros, so "
        f"a validator calls about {often} good candidate{'s' * (zeros > 1 / 2)} poisoned; "
        "use --judge robust"
    )


def bound(voters: int, errs: float) -> float:
    """Return how many malicious validators are too many for ``voters``: (1 - r) n / (2 - r).

    ``errs``: r, the share of honest validators that judge wrongly (section IV-B of the paper).
    """
    return (1 - errs) * voters / (2 - errs)


def safe_quorums(voters: int, malicious: int, errs: float) -> range:
    """Return the quorums q that are safe: n_M < q <= (1 - r)(n - n_M); it may be none.

    There is none for as many malicious validators as ``bound``, and sometimes, as q is a whole
    number, for fewer. With a smaller quorum the malicious ones reject every candidate by
    themselves; with a larger one the honest validators that judge rightly cannot reject any.
    """
    right = (1 - errs) * (voters - malicious) + ROUNDING  # (1 - 0.4) * 10 is a little less than 6
    return range(malicious + 1, math.floor(right) + 1)


def advice(voters: int, malicious: int, errs: float, quorum: int) -> list[str]:
    """Tell people which quorums are safe, and whether theirs is; one line each."""
    safe = safe_quorums(voters, malicious, errs)
    text = f"{safe[0]} to {safe[-1]}" if safe else "none"
    told = (
        f"{voters} voters, {malicious} of them malicious (validation.tolerated_malicious), "
        f"{errs:.0%} "
        f"of the others "
        f"wrong: safe quorums: {text}; fewer than {bound(voters, errs):.2f} malicious ones are "
        "tolerated"
    )
    lines = [told]
    if quorum not in safe:
        lines.append(f"warning: the quorum {quorum} is not safe against that")
    return lines


def pooled_advice(voters: int, malicious: int, *, secret: bool = False) -> list[str]:
    """Tell people how many lying validators pooled counts withstand; one line each.

    ``secret``: nobody sees the counts of one, only sums of several.
    """
    groups = 2 * malicious + 1
    if secret:
        sums = f"{groups} sums that are judged each, most of which decide" if malicious else "a sum"
        told = f"{voters} voters, whose error counts are only seen in {sums}"
        told += f": {malicious} who lie are tolerated (validation.tolerated_malicious)"
    else:
        told = (
            f"{voters} voters, whose error counts are judged together, without the {malicious} "
            f"largest and the {malicious} smallest of each: {malicious} who lie are tolerated "
            "(validation.tolerated_malicious)"
        )
    if malicious:
        return [told]
    return [told, "warning: so a single validator that lies can have any candidate rejected"]
