"""Updates as whole numbers: clipped to a box, rounded, added up modulo a power of two, packed.

A sum of whole numbers does not depend on the order. The modulus is just wide enough for it, and no
coordinate of a group's mean leaves the box, whatever its members send.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.protocol.messages import Vector

Words = npt.NDArray[np.uint32]

NARROWEST, WIDEST = 8, 32
"""Bits of a sum."""


class FixedPoint(NamedTuple):
    """How updates (d,) of one group become whole numbers."""

    clip: float
    """The largest coordinate, either way; larger ones are clipped."""
    bits: int
    """Of a sum: a multiple of four."""
    members: int
    """How many may be summed."""

    @classmethod
    def of(cls, clip: float, members: int, value_bits: int) -> FixedPoint:
        """Return the narrowest for so many members, with this many bits a value at least.

        Raises
        ------
        ValueError
            If their sum does not fit.
        """
        carry = (members - 1).bit_length()
        bits = max(NARROWEST, -(-(value_bits + carry) // 4) * 4)
        if bits > WIDEST:
            raise ValueError(
                f"sums of {members:,} values of {value_bits} bits do not fit into {WIDEST}"
            )
        return cls(clip, bits, members)

    @property
    def largest(self) -> int:
        """The largest number that an honest value becomes."""
        return (1 << self.bits - (self.members - 1).bit_length()) - 1

    def encode(
        self, update: Vector, share: float, *, clipped: bool = True, hidden: bool = False
    ) -> Words:
        """Return what is summed of an update (d,), (d + 1,); ``share``: its weight, 1 at most.

        Clipped, then weighted, then rounded to the nearest, halves to even: the same everywhere.
        The last number says which share of the coordinates was clipped. Not ``clipped``: as an
        attacker may, up to what the whole group's sum can hold. ``hidden``: the weight is summed as
        well, as one number more at the end.

        Raises
        ------
        ValueError
            If it is not finite.
        """
        if not np.isfinite(update).all():
            raise ValueError("the update is not finite")
        value = update.astype(np.float64)
        most = self.clip if clipped else self.clip * self.members
        out = np.count_nonzero(np.abs(value) > most) / max(1, len(value))
        np.clip(value, -most, most, out=value)
        value *= share
        value += self.clip
        value *= self.largest / (2 * self.clip)
        d = len(value)
        result = np.empty(d + 1 + hidden, dtype=np.uint32)
        result[:d] = np.rint(value).astype(np.int64).astype(np.uint32)
        result[d] = np.rint(out * self.largest)
        result[d + 1 :] = np.rint(share * self.largest)
        return result

    def weight(self, total: Words) -> float:
        """Return the sum of the shares, where these are hidden; more than none."""
        return max(1, int(total[-1]) & (1 << self.bits) - 1) / self.largest

    def decode(self, total: Words, count: int, weight: float) -> tuple[Vector, float]:
        """Return the weighted mean (d,) of ``count`` updates; ``total`` (d + 1,): of their numbers.

        And the share of their coordinates that was clipped. ``weight``: the sum of their shares.
        The sum of fewer than the modulus is made for could say more than they can: it is clipped.
        """
        value = (total & np.uint32((1 << self.bits) - 1)).astype(np.float64)
        value *= 2 * self.clip / self.largest
        mean = (value[:-1] - count * self.clip) / weight
        np.clip(mean, -self.clip, self.clip, out=mean)
        return mean.astype(np.float32), self.clipped(total, count)

    def clipped(self, total: Words, count: int) -> float:
        """Return which share of the coordinates of ``count`` updates was clipped; see above."""
        return min(1.0, (int(total[-1]) & (1 << self.bits) - 1) / (self.largest * count))


def packed(words: Words, bits: int) -> bytes:
    """Pack the lowest ``bits`` of each number, a multiple of four: two of them at a time."""
    row = np.zeros(len(words) + len(words) % 2, dtype=np.uint64)
    row[: len(words)] = words & np.uint32((1 << bits) - 1)
    two = row.reshape(-1, 2)
    both = two[:, 0] | two[:, 1] << np.uint64(bits)
    return both.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : bits // 4].tobytes()


def packed_size(length: int, bits: int) -> int:
    """Return how many bytes so many numbers take."""
    return -(-length // 2) * (bits // 4)


def unpacked(data: bytes, length: int, bits: int) -> Words:
    """Unpack so many numbers.

    Raises
    ------
    ValueError
        If there are not just as many bytes.
    """
    if len(data) != packed_size(length, bits):
        raise ValueError(f"{len(data):,} bytes, not {packed_size(length, bits):,}")
    wide = np.zeros((-(-length // 2), 8), dtype=np.uint8)
    wide[:, : bits // 4] = np.frombuffer(data, dtype=np.uint8).reshape(-1, bits // 4)
    both = wide.view("<u8")[:, 0]
    result = np.empty((len(both), 2), dtype=np.uint32)
    result[:, 0] = both & np.uint64((1 << bits) - 1)
    result[:, 1] = both >> np.uint64(bits)
    return result.reshape(-1)[:length]
