"""Vectors in blocks of 256 values, each with a scale of its own."""

from __future__ import annotations

import numpy as np

from fedjury.protocol.codecs.encoding import Encoding
from fedjury.protocol.messages import Vector

BLOCK = 256


def by_blocks(most: int) -> Encoding:
    """Build the codec that writes one float32 scale a block, then the n values as int8.

    A value is its int8, from -``most`` to ``most``, times the scale of its block. A block that
    holds inf or NaN arrives as NaN.
    """

    def encode(vector: Vector) -> bytes:
        padded = np.zeros((_blocks(len(vector)), BLOCK), dtype=np.float32)
        padded.reshape(-1)[: len(vector)] = vector
        peak = np.abs(padded).max(axis=1)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # Rounded towards zero, so that the largest value times the scale never overflows.
            scales = np.where(
                np.isfinite(peak), np.nextafter(peak / np.float32(most), np.float32(0)), np.nan
            )
            steps = np.nan_to_num(padded / scales[:, None], nan=0.0, posinf=0.0, neginf=0.0)
        quantised = np.clip(np.rint(steps), -most, most).astype(np.int8)
        return scales.astype("<f4").tobytes() + quantised.tobytes()[: len(vector)]

    return Encoding(lambda n: n + 4 * _blocks(n), encode, _decode)


def _decode(data: bytes, n: int) -> Vector:
    scales = np.frombuffer(data, dtype="<f4", count=_blocks(n))
    values = np.frombuffer(data, dtype=np.int8, offset=scales.nbytes)
    with np.errstate(over="ignore", invalid="ignore"):
        decoded: Vector = values * np.repeat(scales, BLOCK)[:n]
    return decoded


def _blocks(n: int) -> int:
    return -(-n // BLOCK)
