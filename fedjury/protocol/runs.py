"""Which runs there are at a broker: who was given none finds the newest, who waits is told more."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import (
    PROTOCOL,
    AggregatorPresence,
    BadMessage,
    Manifest1,
    Phase,
    Round,
)
from fedjury.protocol.topics import USUAL, Topics
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.connection_pool import ConnectionPool
from fedjury.protocol.transport.mqtt_probe import probe

MOST = 1000
"""Runs that are known; of more, the first that were heard of."""

LISTED = 5
"""Runs that are named to people."""

SETTLE = 0.5
"""Seconds for what is retained to arrive."""

PATIENCE = 5.0
"""Seconds that a look around may take where the broker does not answer."""

LIMITS = Limits(size=1_000_000)


class Known(NamedTuple):
    """What is known of a run."""

    since: float | None = None
    """When its aggregator began its work (Unix seconds); None if it never said so."""
    online: bool = False
    """Whether that aggregator is there."""
    over: bool = False
    """Whether all its rounds are done."""
    protocol: int = PROTOCOL
    """What its aggregator speaks, as far as it says."""


Runs = Mapping[str, Known]
NONE: Runs = MappingProxyType({})


def on_message(runs: Runs, topic: str, payload: bytes, topics: Topics = USUAL) -> Runs:
    """Take in what came on one of these topics; what is no message of ours changes nothing."""
    try:
        run, kind, _ = topics.parse(topic)
        known = runs.get(run, Known())
        if not payload:  # what was retained there is gone
            known = known._replace(over=False) if kind is Round else Known(over=known.over)
        else:
            match codec.decode(topic, payload, LIMITS, topics):
                case AggregatorPresence(online, since):
                    known = known._replace(online=online, since=since)
                case Round(phase=phase):
                    known = known._replace(over=phase is Phase.DONE)
                case Manifest1(protocol):
                    known = known._replace(protocol=protocol)
    except BadMessage:
        return runs
    if run not in runs and len(runs) >= MOST:
        return runs
    return {**runs, run: known}


def newest(runs: Runs) -> str:
    """Return the run that who was given none joins; empty if there is none, or all are over."""
    able = {name: run for name, run in runs.items() if run.since is not None and not run.over}
    return max(able, key=lambda name: (able[name].online, able[name].since, name), default="")


def listed(runs: Runs) -> str:
    """Name the runs for people, newest first; empty if there are none."""
    known = {name: run for name, run in runs.items() if run.since is not None}
    ordered = sorted(known, key=lambda name: (-(known[name].since or 0.0), name))
    words = [f"{name} ({_state(known[name])})" for name in ordered[:LISTED]]
    if len(ordered) > LISTED:
        words.append(f"{len(ordered) - LISTED:,} more")
    return ", ".join(words)


def _state(run: Known) -> str:
    if run.over:
        return "over"
    return "at work" if run.online else "its aggregator is gone"


@contextmanager
def lookout(
    address: BrokerAddress, principal: str
) -> Iterator[Callable[[float], tuple[Runs, bool]]]:
    """Listen for runs; yields what waits some seconds, and returns them and whether that is all.

    "All" once what is retained has had the time to arrive. ``principal``: whose login is used.

    Raises
    ------
    TransportError
        If the broker cannot be reached, or does not let us in.
    """
    runs: Runs = NONE
    since: float | None = None

    def take(_: str, topic: str, payload: bytes) -> None:
        nonlocal runs
        runs = on_message(runs, topic, bytes(payload), address.topics)

    def look(seconds: float) -> tuple[Runs, bool]:
        nonlocal since
        pool.turn(seconds, reading=True)
        if not pool.connections:
            since = None
        elif since is None:
            since = time.monotonic()
        return runs, since is not None and time.monotonic() - since > SETTLE

    welcome = probe(address, principal)
    pool = ConnectionPool(address, f"look-{uuid.uuid4().hex[:8]}", take, sole=False)
    pool.open(welcome.protocol)
    try:
        filters = address.topics.filters("+", (AggregatorPresence, Round, Manifest1))
        pool.add(principal, filters, presence=False)
        yield look
        pool.hang_up(time.monotonic() + SETTLE)
    finally:
        pool.close()


def around(address: BrokerAddress, principal: str) -> Runs:
    """Look once which runs there are; none where the broker cannot be asked."""
    until = time.monotonic() + PATIENCE
    result: Runs = NONE
    try:
        with lookout(address, principal) as look:
            settled = False
            while not settled and time.monotonic() < until:
                result, settled = look(0.1)
    except TransportError:
        return NONE
    return result


def await_newest(address: BrokerAddress, principal: str, say: Callable[[str], None]) -> str:
    """Wait for a run that can be joined and return its name.

    ``say`` is told what is waited for, whenever that changes.

    Raises
    ------
    TransportError
        If the broker does not let us in.
    """
    told = ""
    begun = time.monotonic()
    with lookout(address, principal) as look:
        while True:
            runs, settled = look(0.1)
            if settled:
                begun = time.monotonic()
                if name := newest(runs):
                    return name
                text = _why(address, runs)
            elif time.monotonic() - begun > PATIENCE:
                text = f"the broker at {address} is gone: waiting until it is back"
            else:
                continue
            if text != told:
                told = text
                say(text)


def _why(address: BrokerAddress, runs: Runs) -> str:
    """Say what is waited for where no run can be joined."""
    over = listed({name: run for name, run in runs.items() if run.over})
    for name, run in sorted(runs.items()):
        if run.since is None and run.protocol != PROTOCOL:
            return (
                f"waiting for a run at {address}: the aggregator of run {name!r} speaks protocol "
                f"{run.protocol}, and this agent speaks {PROTOCOL}; install the same version of "
                "fedjury on both sides"
            )
    there = f"what is there is finished: {over}" if over else "no aggregator has begun one yet"
    return f"waiting for a run at {address}: {there}; 'python -m aggregator' begins the next"
