"""The decoder that many share, told of payloads in turn: it must say what a plain decoder says.

``[step, length, payload...]`` again and again; a step of length 255 repeats the payload before.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from fedjury.protocol.codec import BROADCAST, Decoder, decode, encode
from fedjury.protocol.messages import BadMessage, Message, Reason
from tools.fuzz.examples import MESSAGES, parts
from tools.fuzz.target import Target, tried
from tools.fuzz.targets.codec import LIMITS, TOPICS

AGAIN = 255


def one(data: bytes) -> None:
    """Give a decoder payloads and limits, one after the other."""
    decoder, payload, turns = Decoder(), b"", io.BytesIO(data)
    while len(head := turns.read(2)) == 2:
        step, length = head
        if length != AGAIN:
            payload = turns.read(length)
        if step >= 0xF0:
            decoder.limit(LIMITS[step % len(LIMITS)])
        topic = TOPICS[step % len(TOPICS)]
        shared = said(lambda: decoder.decode(topic, payload))  # noqa: B023 - called here
        plain = said(lambda: decode(topic, payload, decoder.limits))  # noqa: B023 - the same
        assert same(shared, plain)
        assert len(decoder._last) <= len(BROADCAST)  # noqa: SLF001 - it must not grow


def said(read: Callable[[], Message]) -> Message | Reason:
    """Return a message, or why it was refused."""
    result = tried(read, BadMessage)
    return result.reason if isinstance(result, BadMessage) else result


def same(one: Message | Reason, other: Message | Reason) -> bool:
    """Compare what two decoders say; NaN is itself here."""
    if isinstance(one, Reason) or isinstance(other, Reason) or type(one) is not type(other):
        return one == other
    return all(
        np.array_equal(a, b, equal_nan=True)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        else repr(a) == repr(b)
        for a, b in zip(parts(one), parts(other), strict=True)
    )


def seeds() -> list[bytes]:
    """Return turns in which everything is said twice, under changing limits."""
    result = []
    for kind, payload in enumerate(map(encode, MESSAGES)):
        if len(payload) < AGAIN:
            again = bytes([kind, AGAIN, 0xF0 + kind % 16, AGAIN])
            result.append(bytes([kind, len(payload)]) + payload + again)
    return [*result, b"".join(result)]


TARGET = Target(one, seeds, longest=2048)
