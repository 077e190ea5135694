"""Learners: what an agent sends when it is called, honest or not.

A learner is a function ``(weights (d,), called) -> deltas (m, d)``: one row for each of the m
called members, all in one call. Attackers who collude are a ``Collusion`` instead, of such a
function and of what they make of each other's updates. A new attack is one file and one line of
the table; where its agents hold data or collude, ``fedjury.learning.dealing`` lists it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fedjury.attacks import (
    adaptive,
    alie,
    backdoor,
    gaussian,
    history,
    honest,
    ipm,
    label_flip,
    min_max,
    min_sum,
    mpaf,
    random,
    sign_flip,
)
from fedjury.attacks.colluding import Collusion
from fedjury.attacks.learner import Called, Learner, Strike, World, dormant
from fedjury.learning import tables
from fedjury.learning.dealing import ARMED, COLLUDE, HOLD_DATA

__all__ = [
    "ARMED",
    "COLLUDE",
    "HOLD_DATA",
    "LEARNERS",
    "Called",
    "Collusion",
    "Learner",
    "Strike",
    "World",
    "build",
    "dormant",
]

LEARNERS: dict[str, Callable[..., Learner | Collusion]] = {
    "honest": honest.honest,
    "mpaf": mpaf.mpaf,
    "random": random.random,
    "history": history.history,
    "backdoor": backdoor.backdoor,
    "adaptive": adaptive.adaptive,
    "sign_flip": sign_flip.sign_flip,
    "label_flip": label_flip.label_flip,
    "gaussian": gaussian.gaussian,
    "alie": alie.alie,
    "ipm": ipm.ipm,
    "min_max": min_max.min_max,
    "min_sum": min_sum.min_sum,
}


def build(name: str, world: World, options: Mapping[str, Any] | None = None) -> Learner | Collusion:
    """Build the learner of that name, with options of its own.

    Raises
    ------
    ValueError
        If there is none, or it has no such option.
    """
    placed = {name: partial(builder, world) for name, builder in LEARNERS.items()}
    return tables.build(placed, "attack", name, options or {})
