"""Attacks: what malicious agents send when they are selected, and what honest ones do (``honest``).

A learner is a function ``(weights (d,), called) -> deltas (m, d)``: one row for each of the m
called members, all in one call. Attackers who collude are a ``Collusion`` instead, of such a
function and of what they make of each other's updates. A new attack is one file here, or a function
anywhere (``registry``); the mark above it says whether its agents hold data or collude.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedjury import registry
from fedjury.attacks.applied import checked
from fedjury.attacks.attack import (
    AttackContext,
    BackdoorConfig,
    LocalTraining,
    RoundContext,
    idle_until,
)
from fedjury.attacks.colluding import Collusion
from fedjury.registry import Registry

__all__ = [
    "ATTACKS",
    "AttackContext",
    "BackdoorConfig",
    "Collusion",
    "LocalTraining",
    "RoundContext",
    "build",
    "idle_until",
]

ATTACKS: Registry[LocalTraining | Collusion] = registry.ATTACKS


def build(
    name: str, attack: AttackContext, options: Mapping[str, object] | None = None
) -> LocalTraining | Collusion:
    """Build the learner of the attack of that name, with options of its own.

    Raises
    ------
    ValueError
        If there is none, or it has no such option.
    """
    built = ATTACKS.build(name, attack, options=options)
    return built if name in ATTACKS.own else checked(built, name)
