"""Bursts of newcomers (Sybils): who joined after the start, together with unusually many others.

Agents who are there from the start say nothing. If the others came independently of each other,
the number that came in one round would be Poisson, at the rate μ of all other rounds. By Chernoff's
bound c or more come with probability exp(-(c ln(c/μ) - c + μ)) at most. Where that is less than
``chance`` it is a burst, and who came in it is flagged for a while. The logarithm makes the
score, 1/2 at ``chance``.
"""

from __future__ import annotations

import math
from collections import Counter

from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.registry import detector
from fedjury.registry.bounds import AtLeastOne, Probability


@detector(report="joined in one crowd")
def burst(
    chance: Probability = 1e-4, crowd: AtLeastOne = 5, probation: AtLeastOne = 10
) -> Detector:
    """Build the detector of agents who joined in a burst.

    ``chance``: how rare a number of joins makes a burst. ``crowd``: how many it is at least.
    ``probation``: rounds after the join during which they are flagged.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        joins = Counter(since for since in observation.joined.values() if since > 1)
        scores = {
            since: _score(count, joins.total() - count, observation.round - 2, chance)
            for since, count in joins.items()
            if count >= crowd and observation.round - since < probation
        }
        return {name: scores.get(since, 0.0) for name, since in observation.joined.items()}, memory

    return detect


def _score(count: int, others: int, rounds: int, chance: float) -> float:
    """Score ``count`` joins in one round, where ``others`` came in the ``rounds`` other rounds."""
    # One more join than was seen: that nobody came so far does not mean that nobody would.
    rate = (others + 1) / max(rounds, 1)
    if count <= rate:
        return 0.0
    rarity = count * math.log(count / rate) - count + rate
    return min(1.0, 0.5 * rarity / -math.log(chance))
