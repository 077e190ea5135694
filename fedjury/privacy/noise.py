"""Normal noise of the operating system's generator: no seed makes it, and nobody can repeat it.

Box and Muller's transform of 53 random bits each, of which four results are added and halved:
again one of variance 1, whose low bits do not give away what was drawn (Holohan and Braghin,
"Secure Random Sampling in Differential Privacy", ESORICS 2021; the leak is Mironov's, CCS 2012).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Source = Callable[[int], bytes]
"""A number of bytes -> so many random ones: ``os.urandom``, or in tests a fixed source."""

DRAWS = 4
"""Normal numbers that are added up to one."""

BLOCK = 1 << 17
"""Numbers that are drawn at a time: 4 MiB of random bytes."""


def normal(count: int, source: Source) -> npt.NDArray[np.float64]:
    """Draw independent normal numbers (count,) of variance 1."""
    parts = [_normal(min(BLOCK, count - at), source) for at in range(0, count, BLOCK)]
    return np.concatenate(parts) if parts else np.empty(0)


def _normal(count: int, source: Source) -> npt.NDArray[np.float64]:
    drawn = _box_muller(DRAWS * count, source).reshape(DRAWS, count)
    result: npt.NDArray[np.float64] = drawn.sum(axis=0) / np.sqrt(DRAWS)
    return result


def _box_muller(count: int, source: Source) -> npt.NDArray[np.float64]:
    """Draw an even number of normal numbers: √(-2 ln u) cos 2πv and √(-2 ln u) sin 2πv."""
    u, v = _uniform(count, source).reshape(2, count // 2)
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def _uniform(count: int, source: Source) -> npt.NDArray[np.float64]:
    """Draw from 1, 2 … 2^53, each divided by 2^53: none is 0, which has no logarithm."""
    bits = np.frombuffer(source(8 * count), "<u8") >> np.uint64(11)
    return (bits.astype(np.float64) + 1) * 2.0**-53
