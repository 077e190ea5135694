"""The report's table of rounds: which rounds it shows, and what it says of each. All of it is pure.

A file that shows everything of ten thousand rounds would open slowly, so much is left out, and the
table says what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from fedjury.formatting import counts, measure, measures, percent
from fedjury.protocol.record import MOST, DetectionRecord, Quality, RoundRecord
from fedjury.reports.rounds import Voted, ballots, text

ENDS = 100
"""Rounds at the beginning, and at the end, that are shown in any case."""

BETWEEN = 200
"""Rejected rounds between these that are shown, the first ones."""

WIDE = 100
"""Validators of a round that are shown one by one."""

CELLS = 16_000
"""Validators in all of a report's rounds that are shown one by one."""

REASONS = 6
"""Names with a count in a line."""

NAMED = 3
"""Agents that are named in a line."""


class Cell(NamedTuple):
    """A validator's vote: a letter, and what it says when one points at it."""

    kind: str
    """p (poisoned), c (clean), s (silent)."""
    title: str
    malicious: bool


class Line(NamedTuple):
    """A round, as the table shows it."""

    number: int
    struck: bool
    verdict: str
    """accepted, rejected, pending."""
    accuracy: str
    metrics: list[str]
    """Its values, in the order of the table's columns."""
    backdoor: str
    cells: list[Cell]
    more: int
    """Votes that are not among the cells."""
    said: str
    """The votes, counted."""
    notes: list[str]
    skipped: str
    """What was left out before this line."""


KINDS = {True: "p", False: "c", None: "s"}
WORDS = {True: "poisoned", False: "clean", None: "silent"}


def lines(
    rounds: list[RoundRecord],
    attacked: Collection[int],
    malicious: Collection[str],
    budget: int = CELLS,
    metrics: Sequence[str] = (),
) -> list[Line]:
    """Return the lines of a run's table, with at most ``budget`` votes one by one.

    ``metrics``: those that have a column.
    ``attacked``: the rounds in which ``malicious`` agents are known to have struck.
    """
    result: list[Line] = []
    shown = chosen(rounds)
    done = 0
    for at in shown:
        left_out, one = rounds[done:at], rounds[at]
        votes = ballots(one)
        cells = votes[: min(WIDE, budget)]
        budget -= len(cells)
        lost = one.round - (rounds[done - 1].round if done else 0) - 1 - len(left_out)
        result.append(
            Line(
                one.round,
                one.round in attacked,
                one.verdict,
                percent(one.model.accuracy),
                [_value(one.model, name) for name in metrics],
                percent(one.model.backdoor),
                [cell(vote, malicious) for vote in cells],
                len(votes) - len(cells),
                counted(one),
                notes(one),
                skipped(left_out, lost),
            )
        )
        done = at + 1
    return result


def _value(quality: Quality, metric: str) -> str:
    """Return a metric of a model; empty if it was not measured."""
    found = quality.metrics.get(metric)
    return "" if found is None else measure(metric, found)


def chosen(rounds: list[RoundRecord]) -> list[int]:
    """Return the places of the rounds that are shown: the ends, and rejected ones between."""
    inside = range(ENDS, len(rounds) - ENDS)
    rejected = [at for at in inside if rounds[at].accepted is False][:BETWEEN]
    if len(inside) <= BETWEEN:
        rejected = list(inside)
    return sorted(
        {*range(min(ENDS, len(rounds))), *rejected, *range(max(0, len(rounds) - ENDS), len(rounds))}
    )


def skipped(rounds: list[RoundRecord], lost: int) -> str:
    """Say what was left out, and of how many rounds there is no record; empty if nothing was."""
    text = f"There is no record of {lost:,} round{'s' * (lost > 1)} here." if lost > 0 else ""
    if not rounds:
        return text
    thrown = sum(one.accepted is False for one in rounds)
    if len(rounds) == 1:
        which, verb = f"Round {rounds[0].round:,}", "is"
    else:
        which, verb = f"Rounds {rounds[0].round:,} to {rounds[-1].round:,}", "are"
    left = f"{which} {verb} left out here: {thrown:,} rejected, {len(rounds) - thrown:,} not."
    return f"{left} {text}".rstrip()


def cell(vote: Voted, malicious: Collection[str]) -> Cell:
    """Show a vote."""
    bad = vote.name in malicious
    agent = (vote.name or "a validator") + (" (malicious)" if bad else "")
    text = f"{agent}: {WORDS[vote.poisoned]}"
    if vote.score is not None and vote.threshold is not None:
        text += f", score {vote.score:.4g} against threshold {vote.threshold:.4g}"
    return Cell(KINDS[vote.poisoned], text, bad)


def counted(one: RoundRecord) -> str:
    """Count a round's votes in words; empty if nobody was asked."""
    votes = one.votes
    if not votes.asked:
        return ""
    return f"{votes}" if votes.pooled is None else f"{votes}; {votes.decided_by}"


def notes(one: RoundRecord) -> list[str]:
    """Say what else there is to say of a round."""
    message = [text(one.why)] if one.why else []
    candidate, detection = one.candidate, one.detection or DetectionRecord()
    found = measures(candidate.accuracy, candidate.metrics, MOST) if candidate else []
    if one.accepted is False and candidate and found:
        hidden = candidate.backdoor
        behind = "" if hidden is None else f", backdoor {hidden:.1%}"
        values = ", ".join(f"{text(name)} {value}" for name, value in found)
        message.append(f"the candidate: {values}{behind}")
    if one.groups is not None:
        message.append(f"{one.groups}")
    if one.about != one.round:
        message.append(f"about the candidate of round {one.about:,}")
    if one.flagged:
        by = counts(Counter(one.flagged.values()), REASONS)
        out = f"; {detection.filtered:,} filtered" if detection.filtered else ""
        message.append(f"{len(one.flagged):,} flagged ({by}){out}")
    if one.quarantined:
        message.append(f"{len(one.quarantined):,} in quarantine after it")
    if one.traffic.invalid_messages:
        message.append(f"refused: {counts(one.traffic.invalid_messages, REASONS)}")
    if one.privacy is not None:
        message.append(f"{one.privacy}")
    if one.declined:
        message.append(f"{one.declined:,} sat out")
    if one.missing:
        names = ", ".join(one.absent[:NAMED]) + (", …" if one.missing > NAMED else "")
        message.append(
            f"{one.missing:,} missing ({names})" if one.absent else f"{one.missing:,} missing"
        )
    if one.cells:
        cells = (f"{count:,} of cell {cell}" for cell, count in one.cells.items())
        message.append(f"missing: {', '.join(cells)}")
    if one.attempt > 1:
        message.append(f"attempt {one.attempt:,}")
    if one.traffic.dropped:
        message.append(f"the broker dropped {one.traffic.dropped:,}")
    return message
