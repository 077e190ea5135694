"""As int8, with 127 steps: zstd makes seven bits of each, less than a quarter of float32."""

from __future__ import annotations

from fedjury.protocol.codecs.blocks import by_blocks
from fedjury.protocol.codecs.encoding import Encoding
from fedjury.registry import codec


@codec
def int7() -> Encoding:
    """Build the codec of values from -63 to 63."""
    return by_blocks(63)
