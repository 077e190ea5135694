"""A detector of somebody else's at work: it cannot write what it sees, nor stop a round."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from types import MappingProxyType

import numpy as np

from fedjury.detection.detector import Detector, Memory, Observation, Scores
from fedjury.learning.arrays import NUMBERS, read_only
from fedjury.registry import DETECTORS
from fedjury.registry.faults import PluginError, Tell, working

KEPT = NUMBERS + "SU"
"""Kinds of NumPy's types that a file can hold without being unpickled."""


def checked(detector: Detector, name: str, tell: Tell) -> Detector:
    """Return the detector as one that has no say in a round in which it fails.

    What it remembers then stays as it was. It fails if it raises, or returns anything but a
    suspicion from 0 to 1 of agents that it has seen, and arrays to be remembered.
    """

    def detect(observation: Observation, memory: Memory) -> tuple[Scores, Memory]:
        try:
            with working(DETECTORS, name):
                result: object = detector(_shown(observation), _views(memory))
            return _opinion(name, result, observation)
        except PluginError as why:
            tell(f"{why}; it has no say where it fails", f"detector {name}")
            return {}, memory

    return detect


def _shown(observation: Observation) -> Observation:
    """Return the same, of which nothing can be written."""
    return observation._replace(
        updates=read_only(observation.updates),
        weights=read_only(observation.weights),
        joined=MappingProxyType(observation.joined),
        votes=MappingProxyType(observation.votes),
    )


def _views(memory: Memory) -> Memory:
    return {key: read_only(array) for key, array in memory.items()}


def _opinion(name: str, result: object, observation: Observation) -> tuple[Scores, Memory]:
    """Return what a detector says as that; ``PluginError`` says why it is none."""
    what = f"detector {name!r}"
    if not isinstance(result, tuple) or len(result) != 2:
        raise PluginError(f"{what} must return scores and a dict of what it remembers")
    scores, memory = result
    if not isinstance(scores, Mapping):
        raise PluginError(
            f"{what} made no scores by name but {type(scores).__name__}; it must be a dict"
        )
    members = (name for group in observation.groups for name in group.members)
    known = {*observation.names, *observation.joined, *observation.votes, *members}
    for agent, score in scores.items():
        if agent not in known:
            raise PluginError(f"{what} scored {agent!r}, which is no agent of the round")
        if not isinstance(score, Real | np.bool_) or not 0 <= float(score) <= 1:  # NaN is neither
            raise PluginError(f"{what} scored {agent!r} {score!r}; it must be from 0 to 1")
    if not isinstance(memory, Mapping):
        raise PluginError(
            f"{what} remembers {type(memory).__name__}; it must be a dict of NumPy arrays"
        )
    for key, array in memory.items():
        if not (isinstance(key, str) and key.isprintable() and 0 < len(key) <= 100):
            raise PluginError(f"{what} remembers something under {key!r}, which is no name")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in KEPT:
            kind = getattr(array, "dtype", type(array).__name__)
            raise PluginError(f"{what} remembers {key!r} of {kind}; it must be an array of numbers")
    return {agent: float(score) for agent, score in scores.items()}, dict(memory)
