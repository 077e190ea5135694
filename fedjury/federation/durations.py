"""Lengths of time as people write them: 30, "30s", "10m", "1h", "2d"."""

from __future__ import annotations

import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
"""Unit -> seconds."""


def seconds_of(value: float | str) -> float:
    """Return a length of time in seconds.

    Raises
    ------
    ValueError
        If it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)\s*", str(value))
    if match is None:
        raise ValueError(f"{value!r} is no length of time; write 30, '30s', '10m', '1h' or '2d'")
    return float(match[1]) * UNITS[match[2]]
