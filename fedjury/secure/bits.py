"""Sets of places as bits: of whom there is something, and of whom not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def size_of(members: int) -> int:
    """Return how many bytes a bit for each of so many takes."""
    return -(-members // 8)


def places_in(bits: bytes, members: int) -> list[int]:
    """Return which places of so many a bit stands for, ascending."""
    flags = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return np.flatnonzero(flags[:members]).tolist()


def bits_of(places: Iterable[int], members: int) -> bytes:
    """Return a bit for each of so many places."""
    flags = np.zeros(members, np.uint8)
    flags[[*places]] = 1
    return np.packbits(flags, bitorder="little").tobytes()
