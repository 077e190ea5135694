"""Hostile clients: garbage by the thousand on the topics that the aggregator hears."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence

from fedjury.broker.local import HOST
from fedjury.config.program import run_main
from tools.chaos.hose import Hose

EXAMPLES = """examples:
  python -m tools.chaos.flood 1883 lab 10000 4 1000000
"""

BATCH = 100
PATIENCE = 60.0
EXPECTED = (OSError, ValueError)
"""Errors that are one sentence."""


def main(arguments: Sequence[str]) -> int:
    """Read port, run, messages, clients and bytes of what is too large; publish, and leave."""
    made = argparse.ArgumentParser(
        prog="python -m tools.chaos.flood",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Send garbage to the aggregator of a run, through a broker on this machine.",
    )
    made.add_argument("port", metavar="PORT", type=int, help="of the broker")
    made.add_argument("run", metavar="RUN", help="name of the run")
    made.add_argument("messages", metavar="MESSAGES", type=int, help="how many")
    made.add_argument("clients", metavar="CLIENTS", type=int, help="hostile clients who send them")
    made.add_argument(
        "oversize",
        metavar="BYTES",
        type=int,
        help="of one message in a hundred; the others have 40",
    )
    chosen = made.parse_args(arguments)
    taken = publish(chosen.port, chosen.run, chosen.messages, chosen.clients, chosen.oversize)
    print(f"{taken} messages", flush=True)
    return 0 if taken == chosen.messages else 1


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
    run_main(main, EXPECTED)
