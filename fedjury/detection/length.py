"""Length: updates many times longer than what is usual in the round.

Fakes of MPAF (arXiv 2203.08669) and its baselines, random and history, scale what they send by
λ = 1e6, for one update has to drag the mean. SignGuard (Xu et al., ICDCS 2022) leaves out norms
beyond three medians from a round; here the limit is ten times that, since a suspect is not called
again: agents who hold a hundred times the data of others send updates a few times as long.
"""

from __future__ import annotations

import numpy as np

from fedjury.detection.angles import about_squared_norms
from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.registry import detector
from fedjury.registry.bounds import AboveOne


@detector(report="sent updates many times too long", needs=["updates"])
def length(limit: AboveOne = 30.0) -> Detector:
    """Build the detector; ``limit``: the L2 norm that is flagged, in medians of the round.

    The score is norm / (2 limit medians), at most 1, and 0 below half of the limit. The median is
    that of the finite norms that are not zero; where most updates are not finite, nobody is
    flagged: then the model is ruined, and honest agents overflow too.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        norms = np.sqrt(about_squared_norms(observation.updates))
        usual = norms[np.isfinite(norms) & (norms > 0)]
        if 2 * np.isfinite(norms).sum() <= len(norms) or not len(usual):
            return dict.fromkeys(observation.names, 0.0), memory
        norms[~np.isfinite(norms)] = np.inf
        times = norms / np.median(usual)
        scores = np.where(times < limit / 2, 0.0, np.minimum(times / (2 * limit), 1.0))
        return dict(zip(observation.names, scores.tolist(), strict=True)), memory

    return detect
