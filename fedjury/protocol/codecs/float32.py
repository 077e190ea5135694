"""The n values as they are, 4 bytes each."""

from __future__ import annotations

import numpy as np

from fedjury.protocol.codecs.encoding import Encoding
from fedjury.protocol.messages import Vector
from fedjury.registry import codec


@codec
def float32() -> Encoding:
    """Build the codec; what it decodes is a view of the bytes, not a copy."""
    return Encoding(lambda n: 4 * n, Vector.tobytes, lambda data, _: np.frombuffer(data, "<f4"))
