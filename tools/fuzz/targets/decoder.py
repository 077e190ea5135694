"""The decoder that many share, told of payloads in turn: it must say what a plain decoder says.

``[step, length, payload...]`` again and again; a step of length 255 repeats the payload before.
"""

from __future__ import annotations

import numpy as np

from fedjury.protocol.codec import BROADCAST, Decoder, decode, encode
from fedjury.protocol.messages import BadMessage, Message, Reason
from fedjury.protocol.schema import Limits
from tools.fuzz.examples import MESSAGES, parts
from tools.fuzz.target import Target
from tools.fuzz.targets.codec import LIMITS, TOPICS

AGAIN = 255


def one(data: bytes) -> None:
    """Give a decoder payloads and limits, one after the other."""
    decoder, payload, place = Decoder(), b"", 0
    while place + 2 <= len(data):
        step, length = data[place], data[place + 1]
        place += 2
        if length != AGAIN:
            payload = data[place : place + length]
            place += length
        if step >= 0xF0:
            decoder.limit(LIMITS[step % len(LIMITS)])
        topic = TOPICS[step % len(TOPICS)]
        assert same(shared(decoder, topic, payload), plain(topic, payload, decoder.limits))
        assert len(decoder._last) <= len(BROADCAST)  # noqa: SLF001 - it must not grow


def shared(decoder: Decoder, topic: str, payload: bytes) -> Message | Reason:
    """Decode with the decoder that remembers."""
    try:
        return decoder.decode(topic, payload)
    except BadMessage as bad:
        return bad.reason


def plain(topic: str, payload: bytes, limits: Limits) -> Message | Reason:
    """Decode without a memory."""
    try:
        return decode(topic, payload, limits)
    except BadMessage as bad:
        return bad.reason


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
    text = b""
    result = []
    for kind, message in enumerate(MESSAGES):
        payload = encode(message)
        if len(payload) < AGAIN:
            turn = bytes([kind, len(payload)]) + payload + bytes([kind, AGAIN, 0xF0 + kind, AGAIN])
            result.append(turn)
            text += turn
    return [*result, text]


TARGET = Target(one, seeds, longest=2048)
