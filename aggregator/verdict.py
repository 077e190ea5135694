"""The feedback loop's last word: the votes on a candidate become accept or reject.

BAFFLE (Andreina et al., ICDCS 2021): the candidate is rejected if at least q validators call it
poisoned. Who says nothing is no obstacle.
"""

from __future__ import annotations

from collections.abc import Iterable
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
