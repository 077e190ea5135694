"""What strangers say, made harmless: of a kind, within bounds, and fit for a terminal. All pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from typing import Any

from fedjury.protocol.codec import MAX_COUNT
from fedjury.protocol.messages import Reason
from fedjury.protocol.topics import NAME

TEXT = 120
"""Characters of a sentence that are kept."""

MOST_KEYS = 100_000
"""Entries of a map or list that are looked at."""

OTHER = "other"
"""In the place of a reason that we do not know."""

REASONS = frozenset(Reason)

NOTHING: Mapping[str, int] = {}


def text(value: object, most: int = TEXT) -> str:
    """Return a short text that moves no cursor: what is not printable ASCII becomes a "?"."""
    if not isinstance(value, str):
        return ""
    cut = value if len(value) <= most else value[: most - 3] + "..."
    return "".join(char if " " <= char <= "~" else "?" for char in cut)


def name(value: object) -> str:
    """Return the name of an agent or a run; empty if it is none."""
    return value if isinstance(value, str) and NAME.fullmatch(value) else ""


def count(value: object, most: int = MAX_COUNT) -> int | None:
    """Return a number of things, from 0 on; None if it is none."""
    return value if type(value) is int and 0 <= value <= most else None


def number(value: object, most: float = 1e15) -> float | None:
    """Return a finite number from 0 on; None if it is none."""
    if type(value) not in (int, float):
        return None
    assert isinstance(value, int | float)
    return float(value) if 0 <= value <= most and math.isfinite(value) else None


def share(value: object) -> float | None:
    """Return a number from 0 to 1; None if it is none."""
    return number(value, 1.0)


def truth(value: object) -> bool | None:
    """Return a bool; None if it is none."""
    return value if isinstance(value, bool) else None


def entries(value: object) -> Mapping[str, Any]:
    """Return a map; an empty one if it is none, or has more entries than anybody needs."""
    return value if isinstance(value, dict) and len(value) <= MOST_KEYS else {}


def names(value: object) -> list[str]:
    """Return the names in a list or the keys of a map; what is no name is left out."""
    if not isinstance(value, list | dict) or len(value) > MOST_KEYS:
        return []
    return [good for item in value if (good := name(item))]


def refusals(value: object) -> dict[str, int]:
    """Return reason -> count; what has no reason of the protocol is counted as :data:`OTHER`."""
    found: dict[str, int] = {}
    for reason, said in entries(value).items():
        if counted := count(said):
            key = str(reason) if reason in REASONS else OTHER
            found[key] = min(found.get(key, 0) + counted, MAX_COUNT)
    return found


def highest(value: object, most: int) -> tuple[tuple[str, float], ...]:
    """Return the names with the highest scores from 0 to 1, highest first."""
    scores = (
        (agent, score)
        for agent, said in entries(value).items()
        if name(agent) and (score := share(said)) is not None
    )
    return tuple(heapq.nsmallest(most, scores, key=lambda pair: (-pair[1], pair[0])))


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Add counts up, key by key."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
