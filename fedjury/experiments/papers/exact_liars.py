"""Vote attacks of exactly so many liars among the ten voters of each round.

A federation draws its liars once among all agents and its voters again in each round, so that the
number of liars among the voters varies. Here all agents are malicious validators, and in a round
those lie who come first in the draw of its voters: "hide_3_of_100" are three who hide, where the
voters are drawn among 100 agents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from fedjury.attacks import validators
from fedjury.attacks.validators.believable import Verdicts
from fedjury.attacks.validators.malicious import Turn, VoteAttack
from fedjury.experiments.papers.baffle import VALIDATORS
from fedjury.randomness import Purpose, stream


def name_of(lie: str, liars: int, agents: int) -> str:
    """Return how settings name the vote attack of so many liars among the voters."""
    return f"{__name__}:{lie}_{liars}_of_{agents}"


def lying(seed: int, round_: int, liars: int, agents: int) -> frozenset[int]:
    """Return the numbers of those who lie in a round: the first that are drawn to vote in it."""
    drawn = stream(seed, Purpose.VALIDATORS, round_).choice(agents, VALIDATORS, replace=False)
    return frozenset(drawn[:liars].tolist())


def among(lie: str, liars: int, agents: int) -> VoteAttack:
    """Build the vote attack of so many liars among the voters; the others are honest."""
    attack = validators.build(lie)

    def vote(own: Verdicts, turn: Turn) -> Verdicts:
        chosen = lying(turn.seed, turn.round, liars, agents)
        places = [place for place, number in enumerate(turn.members) if number in chosen]
        said = np.array(own)
        if places:
            said[places] = attack(own[places], of(turn, places))
        return said

    return vote


def of(turn: Turn, places: list[int]) -> Turn:
    """Return what some of a turn's members know: of what is said of each, what is said of them."""
    each: dict[str, Any] = {
        name: tuple(value[place] for place in places)
        for name, value in turn._asdict().items()
        if isinstance(value, tuple) and len(value) == len(turn.members)
    }
    return turn._replace(**each)


def __getattr__(name: str) -> Callable[[], VoteAttack]:
    """Return the builder of a vote attack by its name."""
    match = re.fullmatch(r"(\w+)_(\d+)_of_(\d+)", name)
    if not match:
        raise AttributeError(name)
    return lambda: among(match[1], int(match[2]), int(match[3]))
