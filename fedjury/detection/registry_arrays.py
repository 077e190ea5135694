"""An agent registry as plain arrays, for the disk, and back."""

from __future__ import annotations

from collections.abc import Collection as Names
from collections.abc import Mapping
from itertools import islice

import numpy as np
import numpy.typing as npt

from fedjury.detection.detector import GroupVerdict
from fedjury.detection.state import AgentRegistry, AgentStatus
from fedjury.detection.update_sums import UpdateSums

Arrays = dict[str, npt.NDArray[np.generic]]

MEMORY = "memory."
"""Before a detector's name, in the key of what it remembers; its dots are slashes there."""


def to_arrays(registry: AgentRegistry) -> Arrays:
    """Return an agent registry as arrays by key."""
    names = _names(registry.statuses)
    arrays: Arrays = {
        "standings.names": names,
        "standings": np.array(list(registry.statuses.values()), np.int64).reshape(-1, 3),
        "verdict": np.array([-1 if registry.verdict is None else registry.verdict], np.int64),
        "past.names": registry.update_sums.names,
        "past": registry.update_sums.rows,
    }
    for key in ("seen", "admitted", "votes"):
        numbers: Mapping[str, int] = getattr(registry, key)
        arrays |= {f"{key}.names": _names(numbers), key: np.array([*numbers.values()], np.int64)}
    if registry.groups:
        members = [name for group in registry.groups for name in group.members]
        sizes = [(len(group.members), group.left_out) for group in registry.groups]
        arrays |= {"groups.names": _names(members), "groups": np.array(sizes, np.int64)}
    for detector, memory in registry.memories.items():
        inside = f"{MEMORY}{detector.replace('.', '/')}"  # a key may have dots in it, too
        arrays |= {f"{inside}.{key}": value for key, value in memory.items()}
    return arrays


def from_arrays(arrays: Arrays) -> AgentRegistry:
    """Read what ``to_arrays`` wrote.

    Raises
    ------
    KeyError
        If something is missing.
    """
    memories: dict[str, Arrays] = {}
    for name, value in arrays.items():
        if name.startswith(MEMORY):
            detector, key = name.removeprefix(MEMORY).split(".", 1)
            memories.setdefault(detector.replace("/", "."), {})[key] = value
    verdict = int(arrays["verdict"].item())
    statuses = (AgentStatus(*map(int, row)) for row in arrays["standings"].tolist())
    past = UpdateSums(arrays["past.names"], arrays["past"].astype(np.float32))
    return AgentRegistry(
        dict(zip(_texts(arrays["standings.names"]), statuses, strict=True)),
        memories,
        _counts(arrays, "seen"),
        _counts(arrays, "admitted"),
        {name: bool(message) for name, message in _counts(arrays, "votes").items()},
        None if verdict < 0 else bool(verdict),
        past,
        _groups(arrays),
    )


def _names(names: Names[str]) -> npt.NDArray[np.bytes_]:
    return np.array(list(names), dtype="S64")


def _texts(names: npt.NDArray[np.generic]) -> list[str]:
    return [name.decode() for name in names.tolist()]


def _counts(arrays: Arrays, key: str) -> dict[str, int]:
    return dict(zip(_texts(arrays[f"{key}.names"]), arrays[key].tolist(), strict=True))


def _groups(arrays: Arrays) -> tuple[GroupVerdict, ...]:
    if "groups" not in arrays:  # nobody voted on groups
        return ()
    names = iter(_texts(arrays["groups.names"]))
    sizes = arrays["groups"].tolist()
    return tuple(GroupVerdict(tuple(islice(names, size)), bool(out)) for size, out in sizes)
