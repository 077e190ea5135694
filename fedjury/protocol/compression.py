"""A vector as bytes: float32, float16, int8 or int7, each optionally inside zstd.

On the wire a vector is the map ``{codec, n, data}``. All numbers are little-endian.

float32, float16
    ``data`` is the n values. float16 cannot say more than 65,504: larger values become that.
int8
    ``data`` is one float32 scale for each block of 256 values, then the n values as int8; a value
    is its int8 times the scale of its block. A block that holds inf or NaN arrives as NaN.
int7
    as int8, with values from -63 to 63, so that zstd makes seven bits of each: less than a quarter
    of float32, which int8 alone is not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import zstandard

from fedjury.protocol.messages import BadMessage, Reason, Vector

BLOCK = 256
ZSTD = "+zstd"
ENCODINGS = ("float32", "float16", "int8", "int7")
STEPS = {"int8": 127, "int7": 63}
"""The largest value of the encodings by blocks."""
CODECS = tuple(encoding + around for encoding in ENCODINGS for around in ("", ZSTD))
MAX_FLOAT16 = 65504.0


class Packed(NamedTuple):
    """A vector of ``n`` parameters as it travels."""

    codec: str
    n: int
    data: bytes


def compress(vector: Vector, codec: str = "float32") -> Packed:
    """Pack a vector (d,).

    Raises
    ------
    ValueError
        If there is no such codec.
    """
    if codec not in CODECS:
        raise ValueError(f"unknown codec {codec!r}; valid: {', '.join(CODECS)}")
    encoding = codec.removesuffix(ZSTD)
    data = _encode(np.ascontiguousarray(vector, dtype="<f4"), encoding)
    if codec.endswith(ZSTD):
        data = zstandard.ZstdCompressor().compress(data)
    return Packed(codec, len(vector), data)


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
    encoding = codec.removesuffix(ZSTD)
    size = _size(n, encoding)
    if codec.endswith(ZSTD):
        data = _inflate(data, size)
    if len(data) != size:
        raise BadMessage(Reason.WRONG_LENGTH, f"{len(data)} bytes are not {n} values of {codec}")
    vector = _decode(data, n, encoding)
    vector.flags.writeable = False  # many receivers of a broadcast share it
    return vector


def as_received(vector: Vector, codec: str) -> Vector:
    """Return what arrives of a vector (d,) that is sent in a codec; zstd loses nothing."""
    return decompress(compress(vector, codec.removesuffix(ZSTD)))


def _size(n: int, encoding: str) -> int:
    """Bytes of n encoded values."""
    return {"float32": 4 * n, "float16": 2 * n}.get(encoding, n + 4 * _blocks(n))


def _blocks(n: int) -> int:
    return -(-n // BLOCK)


def _encode(vector: Vector, encoding: str) -> bytes:
    if encoding == "float32":
        return vector.tobytes()
    if encoding == "float16":
        bounded = np.clip(vector, -MAX_FLOAT16, MAX_FLOAT16)
        return np.where(np.isinf(vector), vector, bounded).astype("<f2").tobytes()
    padded = np.zeros((_blocks(len(vector)), BLOCK), dtype=np.float32)
    padded.reshape(-1)[: len(vector)] = vector
    peak = np.abs(padded).max(axis=1)
    most = STEPS[encoding]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # Rounded towards zero, so that the largest value times the scale never overflows.
        scales = np.where(
            np.isfinite(peak), np.nextafter(peak / np.float32(most), np.float32(0)), np.nan
        )
        steps = np.nan_to_num(padded / scales[:, None], nan=0.0, posinf=0.0, neginf=0.0)
    quantised = np.clip(np.rint(steps), -most, most).astype(np.int8)
    return scales.astype("<f4").tobytes() + quantised.tobytes()[: len(vector)]


def _decode(data: bytes, n: int, encoding: str) -> Vector:
    if encoding == "float32":
        return np.frombuffer(data, dtype="<f4")
    if encoding == "float16":
        return np.frombuffer(data, dtype="<f2").astype(np.float32)
    scales = np.frombuffer(data, dtype="<f4", count=_blocks(n))
    values = np.frombuffer(data, dtype=np.int8, offset=scales.nbytes)
    with np.errstate(over="ignore", invalid="ignore"):
        decoded: Vector = values * np.repeat(scales, BLOCK)[:n]
    return decoded


def _inflate(data: bytes, size: int) -> bytes:
    """Undo zstd; the size is checked before a byte is inflated, so nothing can blow up."""
    try:
        if zstandard.frame_content_size(data) == size:
            return zstandard.ZstdDecompressor().decompress(
                data, max_output_size=size, allow_extra_data=False
            )
    except zstandard.ZstdError as why:
        raise BadMessage(Reason.MALFORMED, "not a zstd frame") from why
    raise BadMessage(Reason.WRONG_LENGTH, "the zstd frame does not announce the right size")
