"""The n values in half precision, 2 bytes each; beyond 65,504 they become that."""

from __future__ import annotations

import numpy as np

from fedjury.protocol.codecs.encoding import Encoding
from fedjury.protocol.messages import Vector
from fedjury.registry import codec

LARGEST = 65504.0
"""The largest value; inf stays inf."""


@codec
def float16() -> Encoding:
    """Build the codec."""

    def encode(vector: Vector) -> bytes:
        bounded = np.clip(vector, -LARGEST, LARGEST)
        return np.where(np.isinf(vector), vector, bounded).astype("<f2").tobytes()

    def decode(data: bytes, _: int) -> Vector:
        return np.frombuffer(data, dtype="<f2").astype(np.float32)

    return Encoding(lambda n: 2 * n, encode, decode)
