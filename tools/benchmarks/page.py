"""Measure the live page: how late it shows a round, and how busy the browser is.

A thousand agents, a suspicion of each in every record, forty votes, ten rounds a second, and thirty
updates in each: Mosquitto, a headless Chromium, nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import CDPSession

from fedjury.broker.local import BrokerAddress, local_broker
from fedjury.config.program import run_main
from fedjury.monitor.web.browser import launched

RUN = "fl/v2/bench"
UPDATES = 30
"""Updates a round."""

WATCH = """() => {
    const hear = Board.hear, sent = new Map();
    window.late = { heard: [], drawn: [] };
    Board.hear = (board, topic, data) => {
        if (topic === "log/round") {
            sent.set(data.round, data.sent);
            late.heard.push(Date.now() - data.sent);
        }
        return hear(board, topic, data);
    };
    new MutationObserver(() => {
        const round = Number(document.querySelector("#f-round").textContent);
        late.drawn.push(Date.now() - sent.get(round));
    }).observe(document.querySelector("#f-round"), { childList: true });
}"""
"""Notes, in milliseconds, how long after it was sent a record is heard and drawn."""


def main() -> None:
    """Publish rounds and print what the page made of them."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.benchmarks.page",
        description=__doc__,
        epilog="example:\n  python -m tools.benchmarks.page --rate 10 --agents 1000 --rounds 200",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=10.0, help="rounds/s (default: %(default)s)")
    parser.add_argument(
        "--agents", type=int, default=1000, help="of a fleet (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=200, help="published (default: %(default)s)")
    chosen = parser.parse_args()
    names = [f"agent-{number:05d}" for number in range(chosen.agents)]
    with (
        tempfile.TemporaryDirectory() as folder,
        launched() as browser,
        local_broker("mosquitto", page=0, log=Path(folder) / "log") as address,
        client(address) as sender,
    ):
        page = browser.new_page()
        page.goto(address.page)
        page.wait_for_selector(".pill.live")
        begin(sender, names)
        page.wait_for_selector("#f-online:has-text(' of ')")
        page.evaluate(WATCH)
        clock = page.context.new_cdp_session(page)
        clock.send("Performance.enable")
        before = busy(clock)
        wall = publish(sender, names, chosen.rounds, chosen.rate)
        page.wait_for_timeout(2000)
        late = page.evaluate("late")
        share = (busy(clock) - before) / (wall + 2)
    print(f"{len(late['heard'])} of {chosen.rounds} rounds heard")
    for what in ("heard", "drawn"):
        times = sorted(late[what])
        print(
            f"{what}: {statistics.median(times):.0f} ms after it was sent, at most {times[-1]:.0f}"
        )
    print(f"the page's thread is busy {share:.0%} of the time")


@contextmanager
def client(address: BrokerAddress) -> Iterator[paho.Client]:
    """Connect a plain client."""
    result = paho.Client(CallbackAPIVersion.VERSION2)
    result.max_inflight_messages_set(1000)
    result.connect(address.host, address.port)
    result.loop_start()
    try:
        yield result
    finally:
        result.disconnect()
        result.loop_stop()


def begin(sender: paho.Client, names: list[str]) -> None:
    """Let everybody be online, and a round be open."""
    opened = {"round": 1, "attempt": 1, "phase": "train", "contributors": "all", "validators": []}
    sender.publish(f"{RUN}/round", json.dumps(opened), 1, retain=True)
    for name in names:
        sender.publish(f"{RUN}/agent/{name}", '{"online":true,"since":1}', 1, retain=True)


def publish(sender: paho.Client, names: list[str], rounds: int, rate: float) -> float:
    """Publish records and updates at an even pace; returns the seconds that it took."""
    began = time.monotonic()
    for number in range(1, rounds + 1):
        sender.publish(f"{RUN}/log/round", json.dumps(record(number, names)), 1, retain=True)
        for turn in range(UPDATES):
            sender.publish(f"{RUN}/update/{names[turn % len(names)]}", b"an update")
            due = began + (number - 1 + (turn + 1) / UPDATES) / rate
            time.sleep(max(0.0, due - time.monotonic()))
    return time.monotonic() - began


def record(number: int, names: list[str]) -> dict[str, Any]:
    """Make up the record of a round."""
    vote = {"score": 1.0, "threshold": 2.0, "size": 1000}
    return {
        "round": number,
        "attempt": 1,
        "accepted": number % 5 > 0,
        "accuracy": number % 100 / 100,
        "candidate_accuracy": 0.1,
        "votes": {"poisoned": 14, "clean": 26, "silent": 0},
        "voters": {name: {"poisoned": i % 3 == 0, **vote} for i, name in enumerate(names[:40])},
        "suspicion": {name: (number + i) % 100 / 100 for i, name in enumerate(names)},
        "flagged": {},
        "quarantined": names[:20],
        "invalid_messages": {"duplicate": 1},
        "updates": 30,
        "updates_per_second": 300.0,
        "bytes_in": 1_000_000,
        "bytes_out": 9000,
        "sent": time.time() * 1000,
    }


def busy(clock: CDPSession) -> float:
    """Return the seconds that the page's thread has been at work so far."""
    result = {one["name"]: one["value"] for one in clock.send("Performance.getMetrics")["metrics"]}
    return float(result["TaskDuration"])


if __name__ == "__main__":
    run_main(lambda _: main(), ())
