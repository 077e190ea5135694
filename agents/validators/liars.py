"""Validators who lie: they hide their own attack, or deny everybody's training.

A lie is believable: its numbers are those of an honest vote, the other way round where they
must be, so that score and threshold fit the verdict.

BAFFLE tolerates n_M of n validators lying while n_M < (1 - r) n / (2 - r), where r is the share
of honest ones who judge wrongly (Andreina et al., ICDCS 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from learning.validation.opinions import Opinions

Verdicts = npt.NDArray[np.bool_]
"""(m,): whether each of m validators says "poisoned"."""

Evidence = npt.NDArray[np.float64]
"""(m, N + 1): see ``Opinions``."""


class Turn(NamedTuple):
    """The m liars who vote on a candidate, and what they know."""

    round: int
    attempt: int
    members: tuple[int, ...]
    """Their numbers in the whole fleet, in the order of their opinions."""
    seed: int
    struck: bool
    """Whether their own side attacks in this round."""


Liar = Callable[[Opinions, Turn], Opinions]
"""What their own judge honestly says (m,), and what they know -> what they say (m,)."""


def always_accept() -> Liar:
    """Build the validator who calls every candidate clean."""
    return lambda own, _: claim(own, np.zeros_like(own.poisoned))


def always_reject() -> Liar:
    """Build the validator who calls every candidate poisoned."""
    return lambda own, _: claim(own, np.ones_like(own.poisoned))


def honest() -> Liar:
    """Build the validator who says what its judge says, whatever it sends as a contributor."""
    return lambda own, _: own


def hide() -> Liar:
    """Build the validator who calls its own side's attacks clean and else votes honestly."""
    return lambda own, turn: claim(own, own.poisoned & (not turn.struck))


def deny() -> Liar:
    """Build the validator who denies others their training, and else votes honestly."""
    return lambda own, turn: claim(own, own.poisoned | (not turn.struck))


def invert() -> Liar:
    """Build the validator who says the opposite of the truth: attacks are clean, all else not."""
    return lambda own, turn: claim(own, np.full_like(own.poisoned, not turn.struck))


def random() -> Liar:
    """Build the validator who tosses a coin, its own in each round."""

    def lie(own: Opinions, turn: Turn) -> Opinions:
        rngs = [np.random.default_rng([turn.seed, turn.round, i]) for i in turn.members]
        return claim(own, np.array([rng.random() < 0.5 for rng in rngs], dtype=np.bool_))

    return lie


def claim(own: Opinions, poisoned: Verdicts) -> Opinions:
    """Put verdicts (m,) in the place of honest ones, with a score and a threshold that fit.

    Where both are the same, as of one who has no opinion, a score for "poisoned" is raised.
    """
    untrue = poisoned != own.poisoned
    low, high = np.minimum(own.score, own.threshold), np.maximum(own.score, own.threshold)
    above = np.where(high > low, high, low + np.abs(low) + 1)
    score = np.where(untrue, np.where(poisoned, above, low), own.score)
    threshold = np.where(untrue, np.where(poisoned, low, high), own.threshold)
    return Opinions(poisoned, score, threshold, _fitting(own.evidence, poisoned, untrue))


def _fitting(own: Evidence, poisoned: Verdicts, untrue: Verdicts) -> Evidence:
    """Change what was seen of the candidate (m, N + 1), so that it fits a lie."""
    evidence = own.copy()
    if evidence.shape[1] > 1:
        past = own[:, :-1]
        claimed = np.where(poisoned, past.max(axis=1) + np.ptp(past, axis=1) + 1, past.mean(axis=1))
        evidence[untrue, -1] = claimed[untrue]
    return evidence
