"""Hostile clients: garbage by the thousand on the topics that the aggregator hears.

    python -m chaos.flood PORT RUN MESSAGES CLIENTS OVERSIZE

One message in a hundred has ``OVERSIZE`` bytes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence

from broker.local import HOST
from chaos.hose import Hose

BATCH = 100
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
    hoses = [Hose(HOST, port, f"mallory-{number}") for number in range(clients)]
    left, until = messages, time.monotonic() + PATIENCE
    while (left or not all(hose.done for hose in hoses)) and time.monotonic() < until:
        for number, hose in enumerate(hoses):
            if hose.idle and left:
                count = min(BATCH, left)
                left -= count
                hose.give(_batch(run, number, count, oversize))
        if not sum(hose.turn() for hose in hoses):  # each has its turn
            time.sleep(0.001)
    for hose in hoses:
        hose.close()
    return sum(hose.taken for hose in hoses)


def _batch(run: str, number: int, count: int, oversize: int) -> Iterator[tuple[str, bytes, bool]]:
    """Make so many messages: what looks like an update, a vote or a presence, and is none."""
    for i in range(count):
        kind = ("update", "vote", "agent")[i % 3]
        payload = os.urandom(oversize if i % 100 == 99 else 40)
        yield f"fl/v1/{run}/{kind}/mallory-{number}", payload, False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
