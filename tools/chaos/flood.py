"""Hostile clients: garbage by the thousand on the topics that the aggregator hears.

Each is a raw socket that publishes as fast as the broker takes it. All is sent at QoS 1 and the
receipts are counted, so that who floods knows what the broker has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence

from fedjury.broker.local import HOST
from fedjury.config.program import run_main
from fedjury.protocol.transport.packets import length, packet, text

EXAMPLES = """examples:
  python -m tools.chaos.flood 1883 lab 10000 4 1000000
"""

BATCH = 100
PATIENCE = 60.0
CONNACK = b"\x20\x02\x00\x00"
DISCONNECT = b"\xe0\x00"
RECEIPT = 4
"""Bytes of a PUBACK."""
CHUNK = 65_536
EXPECTED = (OSError, ValueError)
"""Errors that are one sentence."""


def main(arguments: Sequence[str]) -> int:
    """Read port, run, messages, clients and bytes of what is too large; publish, and leave."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.chaos.flood",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Send garbage to the aggregator of a run, through a broker on this machine.",
    )
    parser.add_argument("port", metavar="PORT", type=int, help="of the broker")
    parser.add_argument("run", metavar="RUN", help="name of the run")
    parser.add_argument("messages", metavar="MESSAGES", type=int, help="how many")
    parser.add_argument(
        "clients", metavar="CLIENTS", type=int, help="hostile clients who send them"
    )
    parser.add_argument(
        "oversize",
        metavar="BYTES",
        type=int,
        help="of one message in a hundred; the others have 40",
    )
    chosen = parser.parse_args(arguments)
    taken = publish(chosen.port, chosen.run, chosen.messages, chosen.clients, chosen.oversize)
    print(f"{taken} messages", flush=True)
    return 0 if taken == chosen.messages else 1


def publish(port: int, run: str, messages: int, clients: int, oversize: int) -> int:
    """Publish that many messages from that many clients; returns how many the broker has taken."""
    publishers = [RawPublisher(HOST, port, f"mallory-{number}") for number in range(clients)]
    left, until = messages, time.monotonic() + PATIENCE
    while (
        left or not all(publisher.done for publisher in publishers)
    ) and time.monotonic() < until:
        for number, publisher in enumerate(publishers):
            if publisher.idle and left:
                count = min(BATCH, left)
                left -= count
                publisher.give(_batch(run, number, count, oversize))
        if not sum(publisher.turn() for publisher in publishers):  # each has its turn
            time.sleep(0.001)
    for publisher in publishers:
        publisher.close()
    return sum(publisher.taken for publisher in publishers)


def _batch(run: str, number: int, count: int, oversize: int) -> Iterator[tuple[str, bytes, bool]]:
    """Make so many messages: what looks like an update, a vote or a presence, and is none."""
    for i in range(count):
        kind = ("update", "vote", "agent")[i % 3]
        payload = os.urandom(oversize if i % 100 == 99 else 40)
        yield f"fl/v2/{run}/{kind}/mallory-{number}", payload, False


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


if __name__ == "__main__":
    run_main(main, EXPECTED)
