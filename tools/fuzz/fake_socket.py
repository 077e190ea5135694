"""A connection to a broker without a network: what it says is written down beforehand."""

from __future__ import annotations

from typing import Any

from fedjury.protocol.credentials import Login
from fedjury.protocol.transport.mqtt_client import Client

FIVE, THREE = 5, 4
"""The versions of MQTT as paho numbers them."""

PIECES = (1, 2, 3, 7, 64, 1000, 1_000_000)
"""Bytes that a socket gives at a time."""


class Socket:
    """A socket that gives some bytes in pieces, then nothing more; what is sent is kept."""

    def __init__(self, message: bytes, piece: int) -> None:
        self._said, self._piece = message, piece
        self.sent = bytearray()

    def recv(self, size: int) -> bytes:
        """Return the next piece."""
        if not self._said:
            raise BlockingIOError
        size = min(size, self._piece)
        taken, self._said = self._said[:size], self._said[size:]
        return taken

    def send(self, data: bytes) -> int:
        """Take all."""
        self.sent += data
        return len(data)

    @property
    def left(self) -> int:
        """How much has not been asked for."""
        return len(self._said)

    def close(self) -> None:
        """Do nothing."""

    def fileno(self) -> int:
        """Return a number that stands for none."""
        return -1


def connected(protocol: int, socket: Socket) -> tuple[Client, list[tuple[str, bytes]]]:
    """Make a client at such a socket, and the list of what it hears: (topic, payload)."""
    heard: list[tuple[str, bytes]] = []
    client = Client(
        "run.ann", Login(), protocol, lambda topic, payload: heard.append((topic, bytes(payload)))
    )
    told: Any = client
    told._sock = socket  # noqa: SLF001 - in place of connect(), which opens a real one
    told.on_connect = lambda *args: args[3].is_failure
    return client, heard
