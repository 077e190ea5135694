"""Numbers in words, the same wherever people read them."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "\N{EN DASH}"
"""What was not recorded."""


def percent(share: float | None, unknown: str = "") -> str:
    """Return a share as 12.3%, or ``unknown`` if nobody knows it."""
    return unknown if share is None else f"{share:.1%}"


def size(count: float | None) -> str:
    """Return a number of bytes, like 52.1 MB; a dash if nobody knows it."""
    if count is None:
        return UNKNOWN
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.95 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:,.0f} B" if units[0] == "B" else f"{count:,.1f} {units[0]}"


def counts(numbers: Mapping[str, int], most: int | None = None) -> str:
    """Return names with how often each was counted, the largest numbers first, ``most`` of them."""
    ordered = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count:,}" for name, count in ordered[:most] if count]
    return ", ".join(shown) + (", …" if most and len(ordered) > most else "")
