"""Detectors: who is fake, going by what crossed the broker alone.

A detector is a function ``(seen, memory) -> (scores, memory)``. A new one is one file here, or a
function anywhere (``registry``).
"""

from __future__ import annotations

from fedjury import registry
from fedjury.detection.applied import checked
from fedjury.detection.detector import (
    SUSPECT,
    Detector,
    GroupVerdict,
    Memory,
    Observation,
    Scores,
)
from fedjury.registry import Registry
from fedjury.registry.faults import Tell

__all__ = [
    "DETECTORS",
    "SUSPECT",
    "Detector",
    "GroupVerdict",
    "Memory",
    "Observation",
    "Scores",
    "build",
]

DETECTORS: Registry[Detector] = registry.DETECTORS


def untold(_text: str, _kind: str) -> None:
    """Tell nobody."""


def build(name: str, tell: Tell = untold, /, **hyperparameters: object) -> Detector:
    """Build the detector of that name; ``tell``: told where one of somebody else's fails.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    detector = DETECTORS.build(name, options=hyperparameters)
    return detector if name in DETECTORS.own else checked(detector, name, tell)
