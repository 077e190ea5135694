"""What judges say, of many validators at once, and what all judges have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from fedjury.learning.error_profiles import Candidates, Histories

Value = TypeVar("Value", np.bool_, np.float64)

ROUNDING = 1e-9
"""Scores that differ by less than this, or by this share, are equal. A tie is no poison."""

BLOCK = 64
"""Validators judged in one go: enough to make calls rare, few enough for the processor's cache."""


class Judgements(NamedTuple):
    """What m validators think of their candidates; all is finite, as it has to travel in JSON."""

    poisoned: npt.NDArray[np.bool_]
    """(m,): whether the score is above the threshold."""
    score: npt.NDArray[np.float64]
    """(m,)"""
    threshold: npt.NDArray[np.float64]
    """(m,)"""
    evidence: npt.NDArray[np.float64]
    """(m, N + 1): what the judge measured of N accepted models, oldest first, and of the candidate.

    It lets a server add up what many validators saw, and learn from the same validators' past how
    much of it is usual. (m, 0) of those who know too little.
    """

    def of(self, chosen: npt.NDArray[np.bool_]) -> Judgements:
        """Return the opinions of those whom the mask (m,) chooses."""
        return Judgements(
            self.poisoned[chosen], self.score[chosen], self.threshold[chosen], self.evidence[chosen]
        )


def doubts(judgements: Judgements) -> npt.NDArray[np.float64]:
    """Return how much each validator doubts its candidate, (m,), 0 to 1.

    The share of the accepted models that measured less than the candidate; where a judge keeps no
    evidence of them, the part of the way to the threshold that the score has come.
    """
    past, new = judgements.evidence[:, :-1], judgements.evidence[:, -1:]
    if past.size:
        return np.asarray((past < new - ROUNDING).mean(axis=1), np.float64)
    limit = judgements.threshold
    way = np.divide(judgements.score, limit, out=np.zeros(len(limit)), where=limit > 0)
    return np.clip(way, 0.0, 1.0)


def merged(values: Judgements, others: Judgements, of_others: npt.NDArray[np.bool_]) -> Judgements:
    """Put the opinions of ``others`` where the mask (m,) says so, those of ``values`` elsewhere."""
    if of_others.all():
        return others
    if not of_others.any():
        return values  # who has no evidence yet may have none to merge

    def put(one: npt.NDArray[Value], other: npt.NDArray[Value]) -> npt.NDArray[Value]:
        both = np.empty((len(of_others), *one.shape[1:]), one.dtype)
        both[~of_others], both[of_others] = one, other
        return both

    return Judgements(
        put(values.poisoned, others.poisoned),
        put(values.score, others.score),
        put(values.threshold, others.threshold),
        put(values.evidence, others.evidence),
    )


Judge = Callable[[Histories, Candidates], Judgements]
"""(profiles (m, l+1, 2C) of accepted models, oldest first, and of candidates (m, 2C))."""


def no_judgement(validators: int) -> Judgements:
    """Return what m validators say who know too little: clean, with zeros for scores."""
    return Judgements(
        np.zeros(validators, np.bool_),
        np.zeros(validators),
        np.zeros(validators),
        np.zeros((validators, 0)),
    )


def informed(judge: Judge, minimum_history: int) -> Judge:
    """Let a judge speak from so many accepted models on; before, every candidate is clean.

    It is asked for ``BLOCK`` validators at a time.
    """

    def judged(profiles: Histories, candidates: Candidates) -> Judgements:
        validators, models, _ = profiles.shape
        if models < minimum_history or not validators:
            return no_judgement(validators)
        parts = [
            judge(profiles[first : first + BLOCK], candidates[first : first + BLOCK])
            for first in range(0, validators, BLOCK)
        ]
        return Judgements(*map(np.concatenate, zip(*parts, strict=True)))

    return judged


def check_minimum(minimum_history: int, least: int, why: str) -> None:
    """Refuse a smaller minimum history than a judge can work with.

    Raises
    ------
    ValueError
        If it is below ``least``; the message says why.
    """
    if minimum_history < least:
        raise ValueError(
            f"minimum_history must be {least} models at least, not {minimum_history}: {why}"
        )
