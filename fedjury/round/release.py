"""A noisy candidate as it is kept, so that nobody hears of another one in its place."""

from __future__ import annotations

from dataclasses import dataclass

from fedjury.learning.weights import Vector
from fedjury.privacy.releases import Releases
from fedjury.rules import RuleState


@dataclass(frozen=True, slots=True)
class Release:
    """A noisy candidate, with all that is needed to put this very one to the vote again."""

    round: int
    attempt: int
    version: int
    """Of the global model that it stands on."""
    candidate: Vector
    """(d,)"""
    why: str
    """Why nobody can use it; empty if there is no reason."""
    contributors: tuple[str, ...]
    rule: str
    rule_state: RuleState
    """What that rule keeps if the candidate is accepted."""
    releases: Releases
    """What was told with noise so far, this candidate included."""
