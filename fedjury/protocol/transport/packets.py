"""MQTT packets by hand, for hostile clients: no library lets one lie, and none is as fast."""

from __future__ import annotations


def packet(first: int, body: bytes) -> bytes:
    """Write a packet: its first byte, its length, its body."""
    return bytes([first]) + length(len(body)) + body


def length(size: int) -> bytes:
    """Write a number as MQTT writes lengths: seven bits a byte, the lowest first."""
    written = bytearray()
    while True:
        size, low = divmod(size, 128)
        written.append(low | (128 if size else 0))
        if not size:
            return bytes(written)


def text(words: str) -> bytes:
    """Write a string: at most 65,535 bytes of it, behind their number."""
    data = words.encode()[:65_535]
    return len(data).to_bytes(2, "big") + data
