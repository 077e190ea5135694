"""Similar histories (FoolsGold: Fung, Yoon, Beschastnikh, RAID 2020): Sybils are too much alike.

Each agent's updates are added up. Agents of one master work towards one end, and their sums are
more alike than those of any honest two. FoolsGold gives an agent less weight the higher its
largest cosine with another is. Here the sine of that angle is suspicious when it is next to
nothing beside the round's median, for how alike honest agents are depends on their data. It is
exact where it is small enough for that, and else a guess (``sketch.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjury.detection.angles import about_squared_norms, smallness
from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.detection.rows import Rows, places, recall, renewed
from fedjury.detection.sent import pairs
from fedjury.detection.sketch import beside_nearest
from fedjury.learning.weights import Matrix
from fedjury.registry import detector
from fedjury.registry.bounds import Probability


@detector(report="sent updates that are too similar", needs=["updates"])
def similarity(limit: Probability = 0.05) -> Detector:
    """Build the detector of agents whose summed updates are alike.

    ``limit``: sine of the angle to the most similar agent, beside the median, from which on
    downwards an agent is flagged.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        finite = np.flatnonzero(np.isfinite(about_squared_norms(observation.updates)))
        scores = dict.fromkeys(observation.names, 0.0)
        if not len(finite):
            return scores, memory
        names = [observation.names[i] for i in finite.tolist()]
        rows = recall(memory, "sums")
        sums = _added(rows, names, observation.updates[finite])
        rows = renewed(rows, names, {"sums": sums}, observation.round, len(observation.joined))
        return scores | _judged(rows, names, limit), rows.memory()

    return detect


def _judged(rows: Rows, names: Sequence[str], limit: float) -> dict[str, float]:
    """Compare the sums of these agents with those of all who are remembered."""
    sums = rows.values["sums"]
    squares = about_squared_norms(sums)
    moving = squares > 0
    where, place = places(rows, names), np.cumsum(moving) - 1
    told = np.flatnonzero(moving[where])
    result = beside_nearest(sums, squares, np.flatnonzero(moving), place[where[told]], 1, limit)
    scores = smallness(result, limit).tolist()
    return {names[i]: score for i, score in zip(told.tolist(), scores, strict=True)}


def _added(rows: Rows, names: Sequence[str], updates: Matrix) -> Matrix:
    """Add the sums so far of these agents to their updates (n, d), which are written over.

    A sum beyond float32 begins again.
    """
    where = places(rows, names)
    known = np.flatnonzero(where >= 0)
    if len(known):
        before = rows.values["sums"]
        for block, new, old in pairs(updates, known, before, where[known]):
            with np.errstate(over="ignore"):
                together = old + new
            fine = np.isfinite(about_squared_norms(together))
            updates[known[block][fine]] = together[fine]
    return updates
