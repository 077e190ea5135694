"""What strangers say, made harmless: of a kind, within bounds, and fit for a terminal. All pure."""

from __future__ import annotations

from collections.abc import Mapping

from fedjury.protocol.topics import NAME

TEXT = 120
"""Characters of a sentence that are kept."""

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


def added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Add counts up, key by key."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
