"""A vector as bytes: by one of the codecs, which may stand inside zstd.

On the wire a vector is the map ``{codec, n, data}``. ``data`` is what ``fedjury.protocol.codecs``
makes of the n values, and with ``+zstd`` behind the codec's name that as a zstd frame. A name
from the wire is only looked up among the codecs that are there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import zstandard

from fedjury.protocol.codecs.applied import buildable
from fedjury.protocol.codecs.encoding import Encode, Encoding
from fedjury.protocol.messages import BadMessage, Reason, Vector
from fedjury.registry.faults import PluginError

ZSTD = "+zstd"
ENCODINGS, BROKEN = buildable()
"""The codecs that are there by name, and of others that somebody offers, why they are not."""
CODECS = tuple(encoding + around for encoding in ENCODINGS for around in ("", ZSTD))


class Packed(NamedTuple):
    """A vector of ``n`` parameters as it travels."""

    codec: str
    n: int
    data: bytes


def encoding_of(codec: str) -> Encoding:
    """Return the encoding of a codec's name.

    Raises
    ------
    ValueError
        If there is no such codec.
    """
    if why := BROKEN.get(codec.removesuffix(ZSTD)):
        raise ValueError(why)
    if codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}; valid: {', '.join(CODECS)}")
    return ENCODINGS[codec.removesuffix(ZSTD)]


@lru_cache(maxsize=8)
def most_bytes(n: int) -> int:
    """Return how many bytes n values take at the most, in any codec, with what zstd adds."""
    most = max(encoding.size(n) for encoding in ENCODINGS.values())
    return most + most // 128


def compress(vector: Vector, codec: str = "float32", encode: Encode | None = None) -> Packed:
    """Pack a vector (d,), by the ``encode`` of its sender where the codec has such.

    Raises
    ------
    ValueError
        If there is no such codec; a ``PluginError`` if it is somebody else's, and fails.
    """
    encode = encode or encoding_of(codec).encode
    data = encode(np.ascontiguousarray(vector, dtype="<f4"))
    if codec.endswith(ZSTD):
        data = zstandard.ZstdCompressor().compress(data)
    return Packed(codec, len(vector), data)


def or_float32(codec: str) -> str:
    """Return a codec to send in: the one that is asked for, or float32 where we do not know it."""
    return codec if codec in CODECS else "float32"


def decompress(packed: Packed) -> Vector:
    """Unpack a vector (n,), read-only; float32 is a view of the bytes, not a copy.

    Raises
    ------
    BadMessage
        If the codec is unknown or the bytes are not those of ``n`` values.
    """
    codec, n, data = packed
    if codec not in CODECS:
        raise BadMessage(Reason.UNKNOWN_CODEC, codec[:40])
    encoding = ENCODINGS[codec.removesuffix(ZSTD)]
    size = encoding.size(n)
    if codec.endswith(ZSTD):
        data = _inflate(data, size, varies=encoding.varies)
    if len(data) > size or (len(data) < size and not encoding.varies):
        raise BadMessage(Reason.WRONG_LENGTH, f"{len(data)} bytes are not {n} values of {codec}")
    try:
        vector = encoding.decode(data, n)
    except ValueError as why:
        raise BadMessage(Reason.MALFORMED, f"no {n} values of {codec}: {why}") from why
    vector.flags.writeable = False  # many receivers of a broadcast share it
    return vector


def as_received(vector: Vector, codec: str) -> Vector:
    """Return what arrives of a vector (d,) that is sent in a codec; zstd loses nothing.

    Where somebody else's codec fails float32 is sent, see ``Encoder``.
    """
    try:
        return decompress(compress(vector, codec.removesuffix(ZSTD)))
    except PluginError:
        return decompress(compress(vector))


def _inflate(data: bytes, size: int, *, varies: bool) -> bytes:
    """Undo zstd; the size is checked before a byte is inflated, so nothing can blow up."""
    try:
        announced = zstandard.frame_content_size(data)  # -1 where it announces none
        if announced == size or (varies and 0 <= announced < size):
            return zstandard.ZstdDecompressor().decompress(
                data, max_output_size=size, allow_extra_data=False
            )
    except zstandard.ZstdError as why:
        raise BadMessage(Reason.MALFORMED, "not a zstd frame") from why
    raise BadMessage(Reason.WRONG_LENGTH, "the zstd frame does not announce the right size")
