"""A scale for each 256 values, then each value as one of 255 steps, a byte."""

from __future__ import annotations

from fedjury.protocol.codecs.blocks import by_blocks
from fedjury.protocol.codecs.encoding import Encoding
from fedjury.registry import codec


@codec
def int8() -> Encoding:
    """Build the codec of values from -127 to 127."""
    return by_blocks(127)
