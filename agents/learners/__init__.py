"""Learners: what an agent sends when it is called, honest or not.

A learner is a function ``(weights (d,), called) -> deltas (m, d)``: one row for each of the m
called members, all in one call. A new attack is one file and one line of the table.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.learners import adaptive, backdoor, history, honest, mpaf, random
from agents.learners.learner import Called, Learner, Strike, World, dormant
from learning import tables
from learning.dealing import HOLD_DATA

__all__ = [
    "HOLD_DATA", "LEARNERS", "Called", "Learner", "Strike", "World", "build", "dormant",
]  # fmt: skip

LEARNERS: dict[str, Callable[[World], Learner]] = {
    "honest": honest.honest,
    "mpaf": mpaf.mpaf,
    "random": random.random,
    "history": history.history,
    "backdoor": backdoor.backdoor,
    "adaptive": adaptive.adaptive,
}


def build(name: str, world: World) -> Learner:
    """Build the learner of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    return tables.build(LEARNERS, "attack", name, {"world": world})
