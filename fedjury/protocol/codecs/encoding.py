"""What all codecs are: how many bytes, to bytes, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fedjury.protocol.messages import Vector


class Encoding(NamedTuple):
    """A way to write a vector (n,) of float32 as bytes; all numbers are little-endian."""

    size: Callable[[int], int]
    """n -> bytes, exactly; what arrives in another size is refused before it is decoded."""
    encode: Callable[[Vector], bytes]
    """(n,) -> ``size(n)`` bytes."""
    decode: Callable[[bytes, int], Vector]
    """``size(n)`` bytes from anybody, n -> (n,) float32; it never fails, whatever they are."""
