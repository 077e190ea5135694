"""Dissent: validators whose votes keep contradicting what became of the candidate.

A sequential probability ratio test (Wald 1945) for each agent: a vote against the outcome is
evidence for a liar, who does so with probability ``lies``, and against an honest validator, who
does so with probability p; a vote with the outcome is the reverse. p is what an honest validator
may err at worst, ``errs``, or the rate at which the others contradicted this very outcome, if that
is more: honest validators share what their data lack, and err together. So an honest agent is
ever flagged with probability ``chance`` at most (Ville 1939), however often it is looked at.
"""

from __future__ import annotations

import math

import numpy as np

from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.detection.rows import Bools, Floats, aligned, recall, renewed
from fedjury.registry import detector
from fedjury.registry.bounds import Probability


@detector(report="kept voting against the outcome")
def dissent(errs: float = 0.4, lies: float = 0.9, chance: Probability = 1e-3) -> Detector:
    """Build the detector of validators who vote against the outcome.

    ``errs``: share of rounds in which an honest validator may err. ``lies``: share in which a liar
    contradicts. ``chance``: that an honest validator is ever flagged.

    Raises
    ------
    ValueError
        If not 0 < errs < lies < 1.
    """
    if not 0 < errs < lies < 1:
        raise ValueError(f"it takes 0 < errs < lies < 1, not errs {errs} and lies {lies}")
    bar = -math.log(chance)

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        rows = recall(memory, "evidence")
        if observation.votes and observation.accepted is not None:
            voters = sorted(observation.votes)
            message = np.array([observation.votes[name] for name in voters])
            before = aligned(rows, "evidence", voters)
            # A floor: who was honest for long and begins to lie is found in twice the time.
            now = np.maximum(before + _weights(message == observation.accepted, errs, lies), -bar)
            values = {"evidence": now}
            rows = renewed(rows, voters, values, observation.round, len(observation.joined))
        tally = dict(zip(rows.names.tolist(), rows.values.get("evidence", ()), strict=True))
        known = sorted({*observation.joined, *observation.votes})
        result = {name: tally.get(name.encode(), 0.0) / (2 * bar) for name in known}
        return {name: float(min(max(score, 0), 1)) for name, score in result.items()}, rows.memory()

    return detect


def _weights(against: Bools, errs: float, lies: float) -> Floats:
    """Return the evidence of each of n votes, (n,); ``against``: whether it contradicts."""
    others = (against.sum() - against) / max(len(against) - 1, 1)
    rate = np.clip(others, errs, lies)
    weights: Floats = np.where(against, np.log(lies / rate), np.log((1 - lies) / (1 - rate)))
    return weights
