"""Keys of one attempt at a round: agreement, masks, boxes for what only one neighbour may read.

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869), AES-256 in counter mode (NIST SP 800-38A) and AES-GCM,
all of the package ``cryptography``. An agent has two pairs of keys: if it drops out, its neighbours
give away its key for masks, and with it nobody must be able to open the boxes that it has sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY = 32
"""Bytes of a key, private or public."""
NONCE = 12
SEALED = NONCE + 16
"""Bytes that a box is longer than what is in it."""

_FIELD = 2**255 - 19

LOW_ORDER = frozenset(
    (number % 2**255).to_bytes(KEY, "little")
    for number in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        _FIELD - 1,
        _FIELD,
        _FIELD + 1,
    )
)
"""Public keys with which everybody has the same secret: the points of an order of 8 or less."""

Words = npt.NDArray[np.uint32]
Random = Callable[[int], bytes]


class Session(NamedTuple):
    """Of which attempt a key is, and no other."""

    run: str
    round: int
    attempt: int
    group: int

    def info(self, purpose: str, first: str, second: str) -> bytes:
        """Return what binds a key to its purpose and its two agents."""
        return f"{_purpose(self, purpose)}/{first}/{second}".encode()


@lru_cache(maxsize=64)
def _purpose(session: Session, purpose: str) -> str:
    run, number, attempt, group = session
    return f"fedjury/secagg/{purpose}/{run}/{number}/{attempt}/{group}"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, and the public one that goes with it."""

    private: bytes = field(repr=False)
    public: bytes
    _key: X25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, private: bytes) -> KeyPair:
        """Return the pair of a private key of 32 bytes."""
        key = X25519PrivateKey.from_private_bytes(private)
        return cls(private, key.public_key().public_bytes_raw(), key)

    def agree(self, public: bytes) -> bytes:
        """Return the secret that the owners of two pairs share.

        Raises
        ------
        ValueError
            If the other's key is a point of low order, with which there is no secret.
        """
        return self._key.exchange(X25519PublicKey.from_public_bytes(public))


def same(public: bytes) -> bytes:
    """Return a public key as it is used: its highest bit counts for nothing."""
    return public[:-1] + bytes([public[-1] & 127])


def derive(secret: bytes, info: bytes) -> bytes:
    """Derive a key of 32 bytes from a secret, for one purpose."""
    return HKDF(SHA256(), KEY, None, info).derive(secret)


def agreed(own: KeyPair, public: bytes, info: bytes) -> bytes:
    """Return the key of the owners of two pairs for one purpose; raises as ``KeyPair.agree``."""
    return derive(own.agree(public), info)


def mask(key: bytes, length: int) -> Words:
    """Stretch a key, which is used once, into numbers (length,) that look random: 32 bits each."""
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
    result = np.empty(length, dtype="<u4")
    stream.update_into(_zeros(4 * length), result.view(np.uint8).data)
    return result


@lru_cache(maxsize=2)
def _zeros(size: int) -> bytes:
    return bytes(size)


def seal(key: bytes, content: bytes, header: bytes, random: Random) -> bytes:
    """Put content into a box that only opens with its key and header."""
    nonce = random(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, header)


def unseal(key: bytes, box: bytes, header: bytes) -> bytes:
    """Open a box.

    Raises
    ------
    ValueError
        If it does not open: it is of somebody else, of another attempt, or was changed.
    """
    try:
        return AESGCM(key).decrypt(box[:NONCE], box[NONCE:], header)
    except (InvalidTag, ValueError) as why:
        raise ValueError("a box does not open") from why
