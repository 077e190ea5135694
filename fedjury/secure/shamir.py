"""Shamir's secret sharing: any t of n shares give the secret, fewer tell nothing of it.

Over the prime 2^31 + 11, in arrays: many secrets at once. A secret of 32 bytes is cut into nine
parts of 31 bits, most significant first, each shared by a polynomial of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

PRIME = 2**31 + 11
BITS = 31
"""Bits of a part: any number of so many is less than the prime."""
SECRET = 32
"""Bytes of a secret."""
PARTS = -(-8 * SECRET // BITS)

Numbers = npt.NDArray[np.uint64]
Random = Callable[[int], bytes]
"""So many bytes that nobody can foresee: ``os.urandom``; in tests a fixed source."""


def parts_of(secrets: Sequence[bytes]) -> Numbers:
    """Cut secrets of 32 bytes into parts, (m, 9)."""
    number = (int.from_bytes(secret, "big") for secret in secrets)
    mask = (1 << BITS) - 1
    cut = [[value >> BITS * p & mask for p in range(PARTS - 1, -1, -1)] for value in number]
    return np.array(cut, dtype=np.uint64).reshape(-1, PARTS)


def secret_of(parts: Numbers) -> bytes:
    """Put the parts (9,) of a secret together.

    Raises
    ------
    ValueError
        If they are of none.
    """
    value = 0
    for part in parts.tolist():
        if part >> BITS:
            raise ValueError("the shares are of no secret")
        value = value << BITS | part
    try:
        return value.to_bytes(SECRET, "big")
    except OverflowError as why:
        raise ValueError("the shares are of no secret") from why


def share(parts: Numbers, n: int, threshold: int, random: Random) -> Numbers:
    """Share numbers (m, p) among n, of whom ``threshold`` can restore them: (m, n, p).

    The share of the one in place i is the polynomial's value at i + 1.
    """
    several = _uniform((threshold - 1, *parts.shape), random)
    numbers = np.concatenate((several, parts[np.newaxis])).reshape(threshold, -1)
    powers = _powers(n, threshold)
    # Half of each number at a time, so that no sum of products is above 2^64.
    high, low = powers @ (numbers >> np.uint64(16)), powers @ (numbers & np.uint64(0xFFFF))
    value: Numbers = ((high % PRIME << np.uint64(16)) + low) % PRIME
    return value.reshape(n, *parts.shape).swapaxes(0, 1)


@lru_cache(maxsize=16)
def _powers(n: int, threshold: int) -> Numbers:
    """Return the powers of 1 to n, (n, threshold), the highest first."""
    exponents = range(threshold - 1, -1, -1)
    rows = [[pow(x, exponent, PRIME) for exponent in exponents] for x in range(1, n + 1)]
    return np.array(rows, dtype=np.uint64)


def restore(shares: Numbers, places: Sequence[Sequence[int]]) -> Numbers:
    """Restore numbers (m, p) from the shares (m, t, p) of those in these places, (m, t)."""
    weights = np.array([_lagrange(tuple(row)) for row in places], dtype=np.uint64)
    result: Numbers = (shares * weights[..., np.newaxis] % PRIME).sum(axis=1) % PRIME
    return result


@lru_cache(maxsize=4096)
def _lagrange(places: tuple[int, ...]) -> tuple[int, ...]:
    """Return by what each share is multiplied to get the polynomials' values at 0."""
    result = []
    for i in places:
        above = below = 1
        for j in places:
            if j != i:
                above = above * (j + 1) % PRIME
                below = below * (j - i) % PRIME
        result.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(result)


def _uniform(shape: tuple[int, ...], random: Random) -> Numbers:
    """Draw numbers below the prime, each to 2^-96 as likely as any other."""
    drawn = np.frombuffer(random(16 * int(np.prod(shape))), dtype="<u8").reshape(2, *shape)
    high, low = drawn % np.uint64(PRIME)
    result: Numbers = (high * np.uint64(2**64 % PRIME) + low) % np.uint64(PRIME)
    return result
