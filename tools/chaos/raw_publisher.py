"""One hostile client: a raw socket that publishes as fast as the broker takes it.

All is sent at QoS 1 and the receipts are counted, so that who floods knows what the broker has.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from fedjury.protocol.transport.packets import length, packet, text

CONNACK = b"\x20\x02\x00\x00"
DISCONNECT = b"\xe0\x00"
RECEIPT = 4
"""Bytes of a PUBACK."""
CHUNK = 65_536
PATIENCE = 10.0


class RawPublisher:
    """A client of MQTT 3.1.1 with a clean session, without keep-alive."""

    def __init__(self, host: str, port: int, name: str) -> None:
        """Connect; ``ValueError`` if the broker does not let us in."""
        self._socket = socket.create_connection((host, port), PATIENCE)
        self._socket.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(name)))
        if self._socket.recv(len(CONNACK)) != CONNACK:
            raise ValueError("the broker does not let us in")
        self._socket.setblocking(False)
        self._waiting = memoryview(b"")
        self._mid = self._received = self._given = 0

    @property
    def taken(self) -> int:
        """Messages that the broker has acknowledged."""
        return self._received // RECEIPT

    @property
    def idle(self) -> bool:
        """Whether all that it was given is on its way."""
        return not self._waiting

    @property
    def done(self) -> bool:
        """Whether all that it was given is acknowledged."""
        return self.idle and self.taken == self._given

    def give(self, messages: Iterable[tuple[str, bytes, bool]]) -> None:
        """Have messages sent: topic, payload, retained or not."""
        packets = bytearray()
        for topic, payload, retain in messages:
            self._mid = self._mid % 65_535 + 1
            head = text(topic) + self._mid.to_bytes(2, "big")
            packets += bytes([0x32 | retain]) + length(len(head) + len(payload)) + head + payload
            self._given += 1
        self._waiting = memoryview(bytes(packets))

    def turn(self) -> bool:
        """Send and read what can be; returns whether a receipt has come."""
        before = self._received
        with contextlib.suppress(BlockingIOError):
            self._received += len(self._socket.recv(CHUNK))
        if self._waiting:
            with contextlib.suppress(BlockingIOError):
                self._waiting = self._waiting[self._socket.send(self._waiting) :]
        return self._received > before

    def close(self) -> None:
        """Say goodbye."""
        self._socket.setblocking(True)
        self._socket.sendall(DISCONNECT)
        self._socket.close()
