"""What all detectors share: what they see, what they remember, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix, Vector

Memory = Mapping[str, npt.NDArray[np.generic]]
"""What a detector keeps from round to round, by its own keys; nothing but plain arrays.

It is written to disk with the round, so that a resumed run suspects whom it would have.
"""

Scores = Mapping[str, float]
"""An agent's name -> its suspicion in this round, 0 to 1; from ``SUSPECT`` on it is flagged."""

SUSPECT = 0.5


class GroupVerdict(NamedTuple):
    """What validators made of one group of agents; they saw no more than its mean."""

    members: tuple[str, ...]
    """Agents whose updates were in it."""
    left_out: bool
    """Whether it was voted down, or nobody could have voted for it."""


class Observation(NamedTuple):
    """What crossed the broker in a round, as the aggregator has it before the rule."""

    round: int
    names: tuple[str, ...]
    """Who sent an update, sorted: the rows of ``updates``."""
    updates: Matrix
    """(n, d); rows may be anything if limits.finite is off. Nobody ever writes to it: a memory may
    keep it as it is."""
    weights: Vector
    """The global model (d,) that they trained from."""
    joined: Mapping[str, int]
    """Everybody who is online -> the round before which they were first seen."""
    votes: Mapping[str, bool]
    """Who voted on the last candidate -> whether it said "poisoned"."""
    accepted: bool | None = None
    """Whether that candidate was accepted; None if there was no vote."""
    groups: tuple[GroupVerdict, ...] = ()
    """The groups of the last round on which there was a verdict; none where there is no vote on
    groups."""


Detector = Callable[[Observation, Memory], tuple[Scores, Memory]]
"""(what was seen, what it remembered) -> (suspicion by name, what it remembers from now on).

It is pure: same values in, same values out. It never writes what it is given.
"""
