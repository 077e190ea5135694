"""The records of a run as a report shows them: validators one by one, and texts that are short.

Records may have been spoilt or written by somebody else; ``fedjury.protocol.record`` has
dropped what does not fit.
"""

from __future__ import annotations

from typing import NamedTuple

from fedjury.protocol.record import RoundRecord

SHOWN = 200
"""Characters of a text that are shown."""

MOST = 100_000
"""Votes that are believed."""


class Voted(NamedTuple):
    """What a validator said of a candidate; ``poisoned`` is None if it said nothing."""

    name: str
    poisoned: bool | None
    score: float | None = None
    threshold: float | None = None


def ballots(message: RoundRecord) -> list[Voted]:
    """Return what each validator said: who called it poisoned first, then by name.

    Records that name nobody have their voters without names.
    """
    votes = message.votes
    named = [
        Voted(name, vote.poisoned, vote.score, vote.threshold)
        for name, vote in votes.voters.items()
    ]
    counted = ((votes.poisoned, True), (votes.clean, False), (votes.silent, None))
    for count, poisoned in counted:
        known = sum(vote.poisoned is poisoned for vote in named)
        named += [Voted("", poisoned)] * (min(count, MOST) - known)
    rank = {True: 0, False: 1, None: 2}
    return sorted(named, key=lambda vote: (rank[vote.poisoned], vote.name))


def text(value: str) -> str:
    """Return a text that can be shown: short, and without what moves a cursor or turns letters."""
    cut = value[:SHOWN] + ("…" if len(value) > SHOWN else "")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut
    )
