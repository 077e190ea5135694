"""The records of a run as a report reads them: whatever is in the file, the types are right.

Records come from disk. Older ones lack keys, others may have been spoilt or written by somebody
else; what is missing or of another type is None or empty here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SHOWN = 200
"""Characters of a text that are shown."""


class Round(NamedTuple):
    """A finished round. Accuracies and the backdoor's success are shares of samples."""

    number: int
    attempt: int
    accepted: bool | None
    """None: there was nothing to judge."""
    why: str
    judged: int
    """The round whose candidate the verdict is about."""
    accuracy: float | None
    backdoor: float | None
    candidate_accuracy: float | None
    candidate_backdoor: float | None
    updates: int
    missing: int
    absent: tuple[str, ...]
    votes: Mapping[str, int]
    """"poisoned", "clean", "silent" -> how many; empty if nobody was asked."""
    voters: Mapping[str, Any]
    """Name -> what it said, as it is in the record."""
    evidence: float | None
    quorum: int
    """"Poisoned" votes that reject; 0: not recorded."""
    voter_samples: int
    """Samples that the median voter holds; 0: not recorded."""
    refused: Mapping[str, int]
    seconds: float
    bytes_in: int | None
    bytes_out: int | None
    dropped: int | None
    looked: bool
    """Whether anybody looked for fakes."""
    suspected: Mapping[str, str]
    """Agent -> the detector that suspects it most."""
    left_out: int
    quarantined: frozenset[str]
    for_good: frozenset[str]


class Ballot(NamedTuple):
    """What a validator said of a candidate; ``poisoned`` is None if it said nothing."""

    name: str
    poisoned: bool | None
    score: float | None = None
    threshold: float | None = None


def read(records: Iterable[Any]) -> list[Round]:
    """Read the records of a run, oldest round first; those without a number are left out."""
    known = {r["round"]: r for r in records if isinstance(r, dict) and _count(r.get("round"))}
    return [_round(known[number]) for number in sorted(known)]


def ballots(said: Round) -> list[Ballot]:
    """Return what each validator said: who called it poisoned first, then by name.

    Records that name nobody have their voters without names.
    """
    named = [
        Ballot(
            text(name),
            bool(vote.get("poisoned")),
            number(vote.get("score")),
            number(vote.get("threshold")),
        )
        for name, vote in said.voters.items()
        if isinstance(vote, dict)
    ]
    for what, poisoned in (("poisoned", True), ("clean", False), ("silent", None)):
        known = sum(vote.poisoned is poisoned for vote in named)
        named += [Ballot("", poisoned)] * (min(said.votes.get(what, 0), MOST) - known)
    rank = {True: 0, False: 1, None: 2}
    return sorted(named, key=lambda vote: (rank[vote.poisoned], vote.name))


MOST = 100_000
"""Votes that are believed."""


def text(value: object) -> str:
    """Return a text that can be shown: short, and without what moves a cursor or turns letters."""
    said = value if isinstance(value, str) else ""
    cut = said[:SHOWN] + ("…" if len(said) > SHOWN else "")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut
    )


def number(value: object) -> float | None:
    """Return a number that is one, and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < HUGE and math.isfinite(value) else None


def share(value: object) -> float | None:
    """Return a share of something, 0 to 1, if it is one."""
    found = number(value)
    return found if found is not None and 0 <= found <= 1 else None


HUGE = 2**53
"""Numbers beyond it are nobody's count or score."""


def _round(record: dict[str, Any]) -> Round:
    count = {key: _count(record.get(key)) for key in ("attempt", "updates", "missing", "left_out")}
    judged = _count(record.get("judged"))
    accepted, suspected = record.get("accepted"), _table(record.get("suspected"))
    return Round(
        number=record["round"],
        attempt=count["attempt"] or 1,
        accepted=accepted if isinstance(accepted, bool) else None,
        why=text(record.get("why")),
        judged=record["round"] if judged is None else judged,
        accuracy=share(record.get("accuracy")),
        backdoor=share(record.get("backdoor")),
        candidate_accuracy=share(record.get("candidate_accuracy")),
        candidate_backdoor=share(record.get("candidate_backdoor")),
        updates=count["updates"] or 0,
        missing=count["missing"] or 0,
        absent=_names(record.get("absent")),
        votes=_counts(record.get("votes")),
        voters=_table(record.get("voters")),
        evidence=number(record.get("evidence")),
        quorum=_count(record.get("quorum")) or 0,
        voter_samples=_count(record.get("voter_samples")) or 0,
        refused=_counts(record.get("refused")),
        seconds=number(record.get("seconds")) or 0.0,
        bytes_in=_count(record.get("bytes_in")),
        bytes_out=_count(record.get("bytes_out")),
        dropped=_count(record.get("dropped")),
        looked="suspected" in record,
        suspected={text(name): text(by) for name, by in suspected.items()},
        left_out=count["left_out"] or 0,
        quarantined=frozenset(_names(record.get("quarantined"))),
        for_good=frozenset(_names(record.get("for_good"))),
    )


def _count(value: object) -> int | None:
    """Return a whole number from 0 on, if it is one."""
    return value if type(value) is int and 0 <= value < HUGE else None


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _counts(value: object) -> dict[str, int]:
    found = {text(key): _count(item) for key, item in _table(value).items()}
    return {key: item for key, item in found.items() if item}


def _names(value: object) -> tuple[str, ...]:
    return tuple(text(name) for name in value) if isinstance(value, list) else ()
