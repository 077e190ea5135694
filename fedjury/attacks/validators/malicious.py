"""Validators who lie: they hide their own attack, or deny everybody's training.

A lie is a verdict; the numbers that go with it are made up to fit it, see ``believable``.

BAFFLE tolerates n_M of n validators lying while n_M < (1 - r) n / (2 - r), where r is the share
of honest ones who judge wrongly (Andreina et al., ICDCS 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjury.attacks.validators.believable import Verdicts
from fedjury.randomness import Purpose, stream
from fedjury.registry import liar


class Turn(NamedTuple):
    """The m liars who vote on a candidate, and what they know."""

    round: int
    attempt: int
    members: tuple[int, ...]
    """Their numbers in the whole fleet, in the order of their verdicts."""
    seed: int
    attacked: bool
    """Whether their own side attacks in this round."""


Liar = Callable[[Verdicts, Turn], Verdicts]
"""What their own judge honestly says (m,), and what they know -> what they say (m,).

Who has no data finds everything clean.
"""


@liar
def always_accept() -> Liar:
    """Build the validator who calls every candidate clean."""
    return lambda own, _: np.zeros_like(own)


@liar
def always_reject() -> Liar:
    """Build the validator who calls every candidate poisoned."""
    return lambda own, _: np.ones_like(own)


@liar
def honest() -> Liar:
    """Build the validator who says what its judge says, whatever it sends as a contributor."""
    return lambda own, _: own


@liar
def hide() -> Liar:
    """Build the validator who calls its own side's attacks clean and else votes honestly."""
    return lambda own, turn: own & (not turn.attacked)


@liar
def deny() -> Liar:
    """Build the validator who denies others their training, and else votes honestly."""
    return lambda own, turn: own | (not turn.attacked)


@liar
def invert() -> Liar:
    """Build the validator who says the opposite of the truth: attacks are clean, all else not."""
    return lambda own, turn: np.full_like(own, not turn.attacked)


@liar
def random() -> Liar:
    """Build the validator who tosses a coin, its own in each round."""

    def lie(_own: Verdicts, turn: Turn) -> Verdicts:
        rngs = [stream(turn.seed, Purpose.COIN, turn.round, i) for i in turn.members]
        return np.array([rng.random() < 0.5 for rng in rngs], dtype=np.bool_)

    return lie
