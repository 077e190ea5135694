"""What validators counted, as secure sums of their own: the server judges what groups of them say.

One liar spoils the sum of its group, and nothing can be left out within a sum; so there are more
than twice as many groups as may lie, and most of them decide (``fedjury.judges.pooled``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjury.learning.weights import Vector
from fedjury.protocol.pooled import Pooled
from fedjury.randomness import draw_groups
from fedjury.round import secure
from fedjury.round.effects import Effect
from fedjury.round.groups import rng_of
from fedjury.round.secure import SecureRound, of_groups
from fedjury.round.state import RoundConfig, State, Tick, Voting
from fedjury.round.sums import groups_of
from fedjury.secure.agent import base_of, base_of_counts
from fedjury.secure.group import Group

FIRST = 1_000_000
"""The number of the first group of validators: those of updates are below."""


def begun(
    state: State, candidate: Vector, late: frozenset[str], config: RoundConfig
) -> SecureRound | None:
    """Return the groups in which validators add up what they count; None if they do not.

    ``late``: who is not waited for.
    """
    pool, terms, validators = config.pool, config.secure_counts, state.validators
    if pool is None or terms is None or not validators or not pool.enough(state.version):
        return None
    versions = range(max(0, state.version - pool.look_back), state.version + 1)
    base = base_of_counts(base_of(candidate), versions)
    size = len(validators) // pool.groups
    key = rng_of(state.round, config)
    drawn = groups_of(
        validators, state.sums.over(base), lambda agents: draw_groups(agents, size, key)
    )
    turn, length = (state.round, state.attempt), pool.models(state.version) * pool.kinds
    groups = [
        Group(FIRST + i, turn, state.version, length, frozenset(members))
        for i, members in enumerate(drawn)
    ]
    return of_groups(groups, base, terms, 1.0, late)


class Found(NamedTuple):
    """What has come of the sums of counts so far."""

    wait: bool = False
    """Whether one of them may still be opened."""
    pooled: Pooled | None = None
    """What those that could be opened say; None if that is too little."""


def wait(state: State, tick: Tick, config: RoundConfig) -> tuple[State, list[Effect], Found]:
    """Go on with the groups whose step is late, if there are groups."""
    phase = state.phase
    assert isinstance(phase, Voting)
    if phase.secure is None:
        return state, [], Found()
    state, effects = secure.wait(state, tick, config)
    phase = state.phase
    assert isinstance(phase, Voting)
    assert phase.secure is not None
    if not phase.secure.over:
        return state, effects, Found(wait=True)
    return state, effects, Found(pooled=_pooled(phase, state, config))


def _pooled(voting: Voting, state: State, config: RoundConfig) -> Pooled | None:
    if config.pool is None or voting.secure is None:
        return None
    groups = sorted(voting.secure.opened, key=lambda group: group.number)
    if not groups:
        return None
    sums = np.stack([group.counts for group in groups])
    return config.pool.judged_sums(sums, len(voting.secure.contributors), state.version)
