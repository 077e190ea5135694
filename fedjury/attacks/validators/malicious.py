"""Malicious validators: they hide their own attack, or reject everybody's training.

Only the verdict is false; the numbers beside it are made up to fit it, see ``believable``.

BAFFLE tolerates n_M malicious validators of n while n_M < (1 - r) n / (2 - r), where r is the share
of honest ones that judge wrongly (Andreina et al., ICDCS 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fedjury.attacks.validators.believable import Verdicts
from fedjury.randomness import Purpose, stream
from fedjury.registry import vote_attack


class Turn(NamedTuple):
    """The m malicious validators that vote on a candidate, and what they know."""

    round: int
    attempt: int
    members: tuple[int, ...]
    """Their numbers among all agents, in the order of their verdicts."""
    seed: int
    attacked: bool
    """Whether their own side attacks in this round."""
    doubts: tuple[float, ...] = ()
    """How much each one's judge doubts the candidate, 0 to 1 (``judgements.doubts``).

    0 of an agent without data, or whose judge knows too little; empty: nobody knows.
    """
    group: int = -1
    """The group in question, where groups are judged; ``attacked`` then is said of it alone."""
    honest_groups: tuple[int, ...] = ()
    """The groups in which none of their own side is, as far as they know, ascending."""


VoteAttack = Callable[[Verdicts, Turn], Verdicts]
"""The verdicts of their own judge (m,), and what they know -> the verdicts that they send (m,).

The judge of an agent without data finds everything clean.
"""


@vote_attack
def always_accept() -> VoteAttack:
    """Call every candidate clean."""
    return lambda own, _: np.zeros_like(own)


@vote_attack
def always_reject() -> VoteAttack:
    """Call every candidate poisoned."""
    return lambda own, _: np.ones_like(own)


@vote_attack
def honest() -> VoteAttack:
    """Vote as the own judge decides, whatever the agent sends as a contributor."""
    return lambda own, _: own


@vote_attack
def hide() -> VoteAttack:
    """Call candidates of attacked rounds clean, otherwise vote honestly."""
    return lambda own, turn: own & (not turn.attacked)


@vote_attack
def deny() -> VoteAttack:
    """Call candidates of rounds without an attack poisoned, otherwise vote honestly."""
    return lambda own, turn: own | (not turn.attacked)


@vote_attack
def invert() -> VoteAttack:
    """Call candidates of attacked rounds clean and all others poisoned."""
    return lambda own, turn: np.full_like(own, not turn.attacked)


@vote_attack
def deny_group() -> VoteAttack:
    """Call one honest group of each round poisoned, all of them the same; hide attacks.

    Candidates of whole rounds are denied as ``deny`` does.
    """

    def vote(own: Verdicts, turn: Turn) -> Verdicts:
        if turn.attacked:
            return np.zeros_like(own)
        named = turn.group < 0 or turn.group in turn.honest_groups[:1]
        return own | named

    return vote


@vote_attack
def random() -> VoteAttack:
    """Vote at random, with a coin toss of its own in each round."""

    def vote(_own: Verdicts, turn: Turn) -> Verdicts:
        rngs = [stream(turn.seed, Purpose.COIN, turn.round, i) for i in turn.members]
        return np.array([rng.random() < 0.5 for rng in rngs], dtype=np.bool_)

    return vote
