"""Hostile clients: garbage by the thousand on the topics that the aggregator hears."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence

from fedjury.broker.local import HOST
from fedjury.config.program import run_main
from tools.chaos.raw_publisher import RawPublisher

EXAMPLES = """examples:
  python -m tools.chaos.flood 1883 lab 10000 4 1000000
"""

BATCH = 100
PATIENCE = 60.0
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


if __name__ == "__main__":
    run_main(main, EXPECTED)
