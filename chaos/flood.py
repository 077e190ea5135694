"""Hostile clients: garbage by the thousand on the topics that the aggregator hears.

    python -m chaos.flood PORT RUN MESSAGES CLIENTS OVERSIZE

Raw sockets, for no library is as fast. One message in a hundred has ``OVERSIZE`` bytes.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from collections.abc import Sequence

from broker.local import HOST

BATCH = 100
RECEIPT = 4
"""Bytes of a PUBACK."""
PATIENCE = 60.0
EXPECTED = (OSError, ValueError)
"""Errors that are one sentence."""


def main(arguments: Sequence[str]) -> int:
    """Read port, run, messages, clients and bytes of what is too large; publish, and leave."""
    port, messages, clients, oversize = (int(arguments[i]) for i in (0, 2, 3, 4))
    taken = publish(port, arguments[1], messages, clients, oversize)
    print(f"{taken} messages", flush=True)
    return 0 if taken == messages else 1


def publish(port: int, run: str, messages: int, clients: int, oversize: int) -> int:
    """Publish that many messages from that many clients; returns how many the broker has taken."""
    sockets = [_connected(port, number) for number in range(clients)]
    watched = selectors.DefaultSelector()
    for number, client in enumerate(sockets):
        watched.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, number)
    waiting = dict.fromkeys(range(clients), b"")
    left, receipts, until = messages, 0, time.monotonic() + PATIENCE
    while receipts < messages * RECEIPT and time.monotonic() < until:
        for key, ready in watched.select(1.0):
            client, number = sockets[key.data], key.data
            if ready & selectors.EVENT_READ:
                receipts += len(client.recv(65536))
            if ready & selectors.EVENT_WRITE and not waiting[number]:
                count = min(BATCH, left)
                left -= count
                waiting[number] = _batch(run, number, count, oversize)
                if not count:  # it only listens now
                    watched.modify(client, selectors.EVENT_READ, number)
            if ready & selectors.EVENT_WRITE and waiting[number]:
                sent = client.send(waiting[number])
                waiting[number] = waiting[number][sent:]
    for client in sockets:
        client.close()
    return receipts // RECEIPT


def _connected(port: int, number: int) -> socket.socket:
    client = socket.create_connection((HOST, port), 10.0)
    name = f"mallory-{number}".encode()
    rest = b"\x00\x04MQTT\x04\x02\x0e\x10" + _text(name)
    client.sendall(b"\x10" + _length(len(rest)) + rest)
    if client.recv(4) != b"\x20\x02\x00\x00":
        raise ValueError("the broker does not let us in")
    client.setblocking(False)
    return client


def _batch(run: str, number: int, count: int, oversize: int) -> bytes:
    """Write so many messages: what looks like an update, a vote or a presence, and is none."""
    packets = []
    for i in range(count):
        kind = ("update", "vote", "agent")[i % 3]
        payload = os.urandom(oversize if i % 100 == 99 else 40)
        topic = f"fl/v1/{run}/{kind}/mallory-{number}".encode()
        rest = _text(topic) + (i + 1).to_bytes(2, "big") + payload
        packets.append(b"\x32" + _length(len(rest)) + rest)  # PUBLISH, QoS 1
    return b"".join(packets)


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


def _length(size: int) -> bytes:
    """Write a length as MQTT does: seven bits a byte."""
    written = bytearray()
    while True:
        size, low = divmod(size, 128)
        written.append(low | (128 if size else 0))
        if not size:
            return bytes(written)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
