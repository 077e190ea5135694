"""Who is called: drawn from (seed, round) alone, so that a resumed run calls the same agents."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What agents are drawn for; contributors and validators are drawn independently."""

    TRAIN = 1
    VALIDATE = 2


def draw(
    agents: Collection[str], count: int, seed: int, round_: int, purpose: Purpose
) -> tuple[str, ...]:
    """Draw ``count`` of the agents uniformly, or all if there are fewer; sorted by name."""
    if count <= 0:
        return ()
    names = sorted(agents)
    if count >= len(names):
        return tuple(names)
    rng = np.random.default_rng([seed, round_, purpose])
    return tuple(sorted(names[i] for i in rng.choice(len(names), count, replace=False)))
