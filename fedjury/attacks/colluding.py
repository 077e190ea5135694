"""What colluding attackers share: who they are to the cohort, and what they make of each other.

They train honestly and report what they learnt to their coordinator, who plots from all reports
what they send instead: the centre, plus each one's own noise where there is a spread. Of the
honest agents' updates they know nothing: in the papers' terms, the updates of benign agents are
unknown, and those of the attackers stand for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from fedjury.attacks.attack import LocalTraining, RoundContext
from fedjury.learning.weights import Matrix, Vector

NOTHING = np.empty(0, dtype=np.float32)


class Strategy(NamedTuple):
    """What all who collude send: ``centre`` (d,), plus ``spread`` (d,) or (0,) times noise."""

    centre: Vector
    spread: Vector = NOTHING


Plotter = Callable[[Matrix, RoundContext], Strategy]
"""The honest updates (m, d) of the m called colluders, in order of number -> what they send."""


class Collusion(NamedTuple):
    """Attackers who collude: how they train, and what they plot from what came of it."""

    train: LocalTraining
    plot: Plotter


def moments(updates: Matrix) -> tuple[Vector, Vector]:
    """Return mean and standard deviation (d,) of updates (m, d), per coordinate; divisor m."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = updates.mean(axis=0, dtype=np.float64).astype(np.float32)
        variance = np.square(updates - mean).mean(axis=0, dtype=np.float64)
        return mean, np.sqrt(variance).astype(np.float32)


def carried_out(scheme: Strategy, context: RoundContext) -> Sequence[Vector]:
    """Return what each called colluder sends, m times (d,); without a spread one and the same."""
    centre, spread = scheme
    if not len(spread):
        return [centre] * len(context.members)
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            centre + spread * rng.standard_normal(len(centre), dtype=np.float32)
            for rng in context.rngs()
        ]
