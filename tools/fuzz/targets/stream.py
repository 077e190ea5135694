"""Any bytes at all from a broker: ``[version and piece, bytes...]``.

Who is connected to a broker that has gone mad loses that connection, and no more.
"""

from __future__ import annotations

from fedjury.protocol.codec import encode
from fedjury.protocol.transport.packets import length, packet, text
from tools.fuzz import fake_socket
from tools.fuzz.examples import MESSAGES
from tools.fuzz.target import Target
from tools.fuzz.targets.codec import TOPICS

READS = 10_000


def one(data: bytes) -> None:
    """Read until nothing is left, or the connection is given up."""
    if not data:
        return
    protocol = fake_socket.FIVE if data[0] % 2 else fake_socket.THREE
    socket = fake_socket.Socket(
        data[1:], fake_socket.PIECES[data[0] // 2 % len(fake_socket.PIECES)]
    )
    client, heard = fake_socket.connected(protocol, socket)
    client.publish("fl/v2/run/vote/ann", b"?", qos=1)
    for _ in range(READS):
        client.read()
        if client.socket() is None or not socket.left:
            break
    else:
        raise AssertionError("it goes on reading")
    assert sum(len(topic) + len(payload) for topic, payload in heard) <= len(data)


def seeds() -> list[bytes]:
    """Return every packet that a broker may send."""
    result = []
    for first, beside in ((12, b""), (13, b"\0")):
        publish = [
            packet(
                0x30 | qos << 1,
                text(topic) + b"\0\x07" * (qos > 0) + beside + encode(message)[:100],
            )
            for topic, message in zip(TOPICS, MESSAGES, strict=True)
            for qos in (0, 1, 2)
        ]
        others = [
            packet(0x20, b"\0\0" + beside),
            packet(0x20, b"\0\x05" + beside),
            packet(0x40, b"\0\x01"),
            packet(0x40, b"\0\x01\x10" + beside),
            packet(0x50, b"\0\x01"),
            packet(0x62, b"\0\x07"),
            packet(0x70, b"\0\x01"),
            packet(0x90, b"\0\x01" + beside + b"\x01"),
            packet(0xB0, b"\0\x01" + beside),
            packet(0xC0, b""),
            packet(0xD0, b""),
            packet(0xE0, b"\x8e" + beside),
            packet(0xE0, b""),
        ]
        result += [bytes([first]) + content for content in publish[:6] + others]
        result.append(bytes([first]) + b"".join(publish))
        result.append(bytes([first]) + b"".join(others))
    properties = (
        b"\x11\0\0\0\x05\x21\0\x10\x24\x01\x27\0\1\0\0\x12\0\1a\x22\0\x0a\x1f\0\1b"
        b"\x26\0\1c\0\1d\x28\1\x29\1\x2a\1\x13\0\x3c"
    )
    result.append(b"\x0d" + packet(0x20, b"\0\0" + length(len(properties)) + properties))
    return result


TARGET = Target(one, seeds, longest=1024)
