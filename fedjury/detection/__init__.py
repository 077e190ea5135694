"""Detectors: who is fake, going by what crossed the broker alone.

A detector is a function ``(seen, memory) -> (scores, memory)``. A new one is one file here, or a
function anywhere (``registry``).
"""

from __future__ import annotations

from fedjury import registry
from fedjury.detection.detector import SUSPECT, Detector, Memory, Observation, Scores
from fedjury.registry import Registry

__all__ = ["DETECTORS", "SUSPECT", "Detector", "Memory", "Observation", "Scores", "build"]

DETECTORS: Registry[Detector] = registry.DETECTORS


def build(name: str, **hyperparameters: object) -> Detector:
    """Build the detector of that name.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    return DETECTORS.build(name, options=hyperparameters)
