"""What another client may make a broker deliver to us: any topic, properties and payload.

``[version and piece, then again and again: flags, topic, properties' length, payload's length,
properties, payload]``. The packets are whole, for a broker sends no others; what they hold is up
to whoever published them. All must be heard as they were sent, and none may cost the connection.
"""

from __future__ import annotations

import io

from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import BadMessage
from fedjury.protocol.topics import USUAL
from fedjury.protocol.transport import packets
from tools.fuzz import fake_socket
from tools.fuzz.examples import MESSAGES, PARAMETERS
from tools.fuzz.target import Target, tried
from tools.fuzz.targets.codec import TOPICS

LIMITS = Limits(PARAMETERS, size=1000)
RAW = 200
"""A topic's number from here on: so many more bytes of the input are the topic."""


def one(data: bytes) -> None:
    """Deliver packets, and read what came."""
    if not data:
        return
    protocol = fake_socket.FIVE if data[0] % 2 else fake_socket.THREE
    message, sent, mids = written(data[1:], protocol)
    socket = fake_socket.Socket(message, fake_socket.PIECES[data[0] // 2 % len(fake_socket.PIECES)])
    client, heard = fake_socket.connected(protocol, socket)
    while socket.left:
        client.read()
        assert client.socket() is not None, "the connection was given up"
    assert heard == sent
    assert socket.sent == b"".join(b"\x40\x02" + mid for mid in mids)
    for topic, payload in heard:
        USUAL.is_retained_clear(topic, payload)
        tried(lambda: decode(topic, payload, LIMITS), BadMessage)  # noqa: B023 - called here


def written(data: bytes, protocol: int) -> tuple[bytes, list[tuple[str, bytes]], list[bytes]]:
    """Write packets; returns them, what they say, and the ids that want an acknowledgement."""
    message, sent, mids, turns = bytearray(), [], [], io.BytesIO(data)
    while len(head := turns.read(4)) == 4:
        flags, number, beside, size = head
        topic = TOPICS[number % len(TOPICS)]
        if number >= RAW:
            topic = turns.read(number - RAW).decode(errors="replace").replace("\0", "0")
        properties = b""
        if protocol == fake_socket.FIVE:
            raw = turns.read(beside)
            properties = packets.length(len(raw)) + raw
        payload, qos = turns.read(size), flags >> 1 & 1
        mid = bytes([1 + flags % 255, number])
        body = packets.text(topic) + mid * qos + properties + payload
        message += packets.packet(0x30 | (flags & 0b1011), body)
        sent.append((topic, payload))
        mids += [mid] * qos
    return bytes(message), sent, mids


def seeds() -> list[bytes]:
    """Return every kind of message, in one piece and in many, with properties and without."""
    result = []
    for number, message in enumerate(MESSAGES):
        payload = encode(message)[:255]
        for first, beside in ((0, b""), (12, b""), (13, b""), (9, b"\x03\0\x01a")):
            turn = bytes([2, number, len(beside), len(payload)]) + beside * (first % 2) + payload
            result.append(bytes([first]) + turn * 2)
    return result


TARGET = Target(one, seeds, longest=2048)
