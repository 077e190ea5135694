"""Detectors: who is fake, going by what crossed the broker alone.

A detector is a function ``(seen, memory) -> (scores, memory)``. A new one is one file and one line
of the table.
"""

from __future__ import annotations

from collections.abc import Callable

from fedjury.detection import burst, dissent, fixed_point, fldetector, length, similarity
from fedjury.detection.detector import SUSPECT, Detector, Memory, Scores, Seen
from fedjury.learning import tables

__all__ = ["DETECTORS", "SUSPECT", "Detector", "Memory", "Scores", "Seen", "build"]

DETECTORS: dict[str, Callable[..., Detector]] = {
    "fixed_point": fixed_point.fixed_point,
    "length": length.length,
    "similarity": similarity.similarity,
    "fldetector": fldetector.fldetector,
    "burst": burst.burst,
    "dissent": dissent.dissent,
}


def build(name: str, **hyperparameters: object) -> Detector:
    """Build the detector of that name.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    return tables.build(DETECTORS, "detector", name, hyperparameters)
