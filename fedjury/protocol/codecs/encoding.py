"""What all codecs are: at most how many bytes, to bytes, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fedjury.protocol.messages import Vector

Encode = Callable[[Vector], bytes]
"""A vector (n,) of float32 -> bytes."""


class Encoding(NamedTuple):
    """A way to write a vector (n,) of float32 as bytes; all numbers are little-endian."""

    size: Callable[[int], int]
    """n -> the most bytes; more are refused before they are decoded, or even inflated."""
    encode: Encode
    """(n,) -> bytes, of each vector by itself."""
    decode: Callable[[bytes, int], Vector]
    """Bytes from anybody, n -> (n,) float32. Of ``size(n)`` bytes, or of any number up to that
    where the length varies; ValueError says that these are no encoding, nothing else is raised."""
    varies: bool = False
    """Whether an encoding may be shorter than ``size(n)``."""
    sender: Callable[[], Encode] | None = None
    """Make the ``encode`` of one sender, which remembers what it has left out of its updates and
    adds it to the next (error feedback); None: there is nothing to remember."""
