"""Which of several aggregators serves a run: one that comes looks first whether another is at work.

It looks through a connection of its own, so that the one at work keeps its place at the broker.
Presence alone does not tell: who vanishes with its machine is believed to be there for 1.5 times
the keep-alive. So one at work gives a sign of life every other second, from the network's loop,
whatever else it does; after ten seconds without any it counts as gone. Of two, the one that began
later serves, and one that comes later says so, whatever the clocks say; an aggregator that has
lost its connection looks before it takes its place again, and stops if another has followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, Self

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.messages import AggregatorPresence, BadMessage, Heartbeat
from fedjury.protocol.topics import Topics
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.lookout import Lookout

BEAT = 2.0
"""Seconds between two signs of life."""
SILENT = 10.0
"""Seconds without one after which an aggregator counts as gone."""
SETTLE = 0.2
"""Seconds for what is retained to arrive once it was asked for."""
LINGER = 3.0
"""Seconds that one has to come back whom our look itself may have thrown out."""
TOLD = 1.0
"""Seconds of waiting after which people are told."""
APART = 1e-3
"""Seconds between the beginnings of two aggregators of a run, at the least."""

LIMITS = Limits(size=100_000)


class Seen(NamedTuple):
    """What aggregators of a run have said so far."""

    since: float | None = None
    """When the last one began; None: there has been none."""
    online: bool = False
    """Whether it says that it is there."""
    beat: float | None = None
    """When it first gave a sign of life (seconds, monotonic); None: it has not while we looked."""


def on_message(seen: Seen, topic: str, payload: bytes, now: float, topics: Topics) -> Seen:
    """Take in what came on one of these topics; what is no message of ours changes nothing."""
    try:
        match codec.decode(topic, payload, LIMITS, topics) if payload else None:
            case AggregatorPresence(online, since):
                return Seen(since, online, seen.beat if online else None)
            case Heartbeat(since):
                first = now if seen.beat is None else seen.beat
                return Seen(max(since, seen.since or since), online=True, beat=first)
    except BadMessage:
        pass
    return seen


def claim(
    address: BrokerAddress,
    run: str,
    principal: str,
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
) -> float:
    """Make sure that no other aggregator serves a run; return since when (Unix seconds) ours does.

    ``say`` is told what is waited for. ``principal``: the one that will serve.

    Raises
    ------
    BrokerAway
        If nobody answers there.
    TransportError
        If there is one at work.
    """
    told = False
    with _Watch(address, run, principal) as watch:
        while watch.turn() and not stopping():
            seen = watch.seen
            if watch.at_work():
                raise TransportError(at_work(run, str(address), seen.since))
            if watch.waited >= watch.patience():
                break
            if min(watch.waited, watch.patience()) > TOLD and not told:
                told = True
                say(waiting(run, seen, watch.patience()))
    return round(max(time.time(), (watch.seen.since or 0.0) + APART), 6)


def followed(address: BrokerAddress, run: str, principal: str, since: float) -> str:
    """Say that another took the place of an aggregator that served since then; "" if none has."""
    try:
        with _Watch(address, run, principal) as watch:
            while watch.turn() and watch.seen.since is None and watch.waited < SETTLE:
                pass
    except BrokerAway:
        return ""
    latest = watch.seen.since
    return replaced(run, latest) if latest is not None and latest > since else ""


class Place:
    """The place of an aggregator that serves a run: what it says of itself, and who follows it."""

    def __init__(
        self, address: BrokerAddress, run: str, principal: str, presence: AggregatorPresence
    ) -> None:
        self.topic = address.topics.where(run, AggregatorPresence)
        self.heartbeat = Heartbeat(presence.since)
        self._address, self._run, self._principal = address, run, principal
        self._presence = presence
        self._heard = False
        self._next_beat = 0.0

    def due(self, now: float) -> bool:
        """Say whether it is time for a sign of life; once, at ``now`` (seconds, monotonic)."""
        if now < self._next_beat:
            return False
        self._next_beat = now + BEAT
        return True

    def followed(self) -> str:
        """Look whether another follows it, before it takes its place again; "" if none does."""
        return followed(self._address, self._run, self._principal, self._presence.since)

    def follower(self, payload: bytes) -> str:
        """Say that who said this of itself follows it; "" if not."""
        seen = on_message(Seen(), self.topic, payload, 0.0, self._address.topics)
        later = seen.since is not None and seen.since > self._presence.since
        return replaced(self._run, seen.since or 0.0) if later else ""

    def spoilt(self, payload: bytes) -> bool:
        """Say whether its own presence is no longer what is retained, after it once was."""
        seen = on_message(Seen(), self.topic, payload, 0.0, self._address.topics)
        if (seen.since, seen.online) == (self._presence.since, True):
            self._heard = True
            return False
        return bool(payload) and self._heard


def waiting(run: str, seen: Seen, seconds: float) -> str:
    """Say what is waited for."""
    before = f"run {run!r} has had an aggregator since {clock(seen.since)}"
    if seen.online:
        return (
            f"{before} that did not say goodbye: waiting up to {seconds:g} s for a sign that it is "
            "at work"
        )
    return (
        f"{before}: waiting {seconds:g} s whether it comes back, as it may have been thrown out by "
        "this very look ('fedjury enroll' makes a login to look by)"
    )


def at_work(run: str, address: str, since: float | None) -> str:
    """Say why a second aggregator does not start."""
    return (
        f"run {run!r} at {address} is served by another aggregator since {clock(since)}: stop that "
        "one first, or choose another run with --run NAME"
    )


def replaced(run: str, since: float) -> str:
    """Say why one stops that had lost its connection."""
    return (
        f"another aggregator took over run {run!r} at {clock(since)}, while this one was cut off "
        "from the broker: this one stops, and the run goes on from the other one's folder"
    )


def clock(since: float | None) -> str:
    """Return a moment (Unix seconds) for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since))


class _Watch:
    """A look at what the aggregators of a run say, begun again where it is cut off."""

    def __init__(self, address: BrokerAddress, run: str, principal: str) -> None:
        """Begin it; raises BrokerAway if nobody answers there."""
        self.seen = Seen()
        self._topics = address.topics
        kinds = self._topics.filters(run, (AggregatorPresence, Heartbeat))
        self._lookout = Lookout(address, principal, kinds, self._heard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lookout.close()

    @property
    def waited(self) -> float:
        """For how long it has listened (seconds)."""
        return self._lookout.listened

    def turn(self) -> bool:
        """Listen for a moment; False if there is nothing more to be had."""
        return self._lookout.turn()

    def patience(self) -> float:
        """Say how long (seconds) to listen, by what is known so far."""
        if self.seen.online:
            return SILENT
        return LINGER if self._lookout.as_itself and self.seen.since is not None else SETTLE

    def at_work(self) -> bool:
        """Say whether there is one at work: it gave a sign, and no goodbye soon after.

        Or it threw us out, who looked by its own login.
        """
        if self._lookout.thrown_out and self.seen.since is not None:
            return True
        beat = self.seen.beat
        return beat is not None and time.monotonic() - beat > SETTLE

    def _heard(self, topic: str, payload: bytes) -> None:
        self.seen = on_message(self.seen, topic, payload, time.monotonic(), self._topics)
