"""Whole numbers as they travel in a vote: how many bytes each takes, then the numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.protocol.messages import MAX_COUNT

TYPES = {1: "<u1", 2: "<u2", 4: "<u4"}
"""Bytes of a number -> how it is written."""


def packed(counts: npt.NDArray[np.int64]) -> bytes:
    """Write counts (n,) of 0 to ``MAX_COUNT``, each in as few bytes as the largest needs.

    Raises
    ------
    ValueError
        If one is not in that range.
    """
    if not counts.size:
        return b""
    most = int(counts.max())
    if counts.min() < 0 or most > MAX_COUNT:
        raise ValueError(f"counts run from {counts.min()} to {most}, not 0 to {MAX_COUNT}")
    width = next(width for width in TYPES if most < 256**width)
    return bytes([width]) + counts.astype(TYPES[width]).tobytes()


def unpacked(content: bytes) -> npt.NDArray[np.int64]:
    """Read counts as ``packed`` writes them, (n,).

    Raises
    ------
    ValueError
        If these bytes hold none.
    """
    if not content:
        return np.empty(0, np.int64)
    kind = TYPES.get(content[0])
    if kind is None:
        raise ValueError(f"numbers of {content[0]} bytes")
    counts = np.frombuffer(content, kind, offset=1).astype(np.int64)
    if counts.size and counts.max() > MAX_COUNT:
        raise ValueError(f"a count of {counts.max():,}")
    return counts
