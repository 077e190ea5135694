"""Fixed sources of "random" bytes: noise that can be worked out by hand."""

from __future__ import annotations

import math

from fedjury.randomness import Purpose, stream

LARGEST = math.sqrt(2 * 53 * math.log(2))
"""The largest normal number that 53 bits make: √(-2 ln 2⁻⁵³)."""


def silent(size):
    """Return bytes of which all noise becomes 0: √(-2 ln 1)."""
    return b"\xff" * size


def largest(size):
    """Return bytes of which all noise becomes the largest: two such and two zeros, halved."""
    return bytes(size)


def drawn(seed):
    """Return a source of bytes that look random, the same for the same seed."""
    generator = stream(seed, Purpose.TRIAL)
    return generator.bytes
