"""Any bytes as a vector, in every codec: ``[codec, n in two bytes, data...]``."""

from __future__ import annotations

import numpy as np

from fedjury.protocol.compression import CODECS, Packed, compress, decompress
from fedjury.protocol.messages import BadMessage, Reason
from tools.fuzz.target import Target, tried

NAMES = (*CODECS, "float64", "")
REFUSALS = {Reason.UNKNOWN_CODEC, Reason.WRONG_LENGTH, Reason.MALFORMED}


def one(data: bytes) -> None:
    """Unpack a vector; what comes out has the length that was said, and survives another trip."""
    if len(data) < 3:
        return
    codec, n = NAMES[data[0] % len(NAMES)], int.from_bytes(data[1:3], "little")
    vector = tried(lambda: decompress(Packed(codec, n, data[3:])), BadMessage)
    if isinstance(vector, BadMessage):
        assert vector.reason in REFUSALS
        return
    assert vector.shape == (n,)
    assert vector.dtype == np.float32
    assert not vector.flags.writeable
    again = [decompress(compress(vector, other)) for other in CODECS]
    assert all(other.shape == (n,) for other in again)
    if codec.startswith("float") and np.isfinite(vector).all():
        assert again[CODECS.index(codec)].tobytes() == vector.tobytes()


def seeds() -> list[bytes]:
    """Return some vectors in every codec."""
    result = []
    for number, codec in enumerate(CODECS):
        for n in (0, 1, 300):
            packed = compress(np.linspace(-1, 1, n, dtype=np.float32), codec)
            result.append(bytes([number]) + n.to_bytes(2, "little") + packed.data)
    return result


WORDS = (b"\x28\xb5\x2f\xfd", b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff\xff\xff\xff")

TARGET = Target(one, seeds, longest=2048, words=WORDS)
