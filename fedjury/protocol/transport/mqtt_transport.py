"""The doors to a real broker: one MQTT connection a party, one selector loop for them all.

One epoll watches all sockets of the process (paho's own threads stop at 340 clients), and it runs
on the thread of whoever waits for a message: reading, decoding and sending happen on one thread,
which costs a third of what handing every message from a thread to another does. While that thread
is busy with other things, such as training, a network thread takes its place, so that connections
stay alive and what was sent goes out. Whoever holds the lock runs
the loop (``connection_pool.py``).

MQTT 5 where the broker speaks it, else 3.1.1: nothing here depends on more than topic and payload.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Self

from fedjury.protocol import codec
from fedjury.protocol.codec import Decoder
from fedjury.protocol.credentials import BrokerAddress
from fedjury.protocol.encoder import Encoder
from fedjury.protocol.messages import EVERY_AGENT, Abilities, Message, Serving
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.connection import Delivery, Traffic, TransportError
from fedjury.protocol.transport.connection_pool import ConnectionPool
from fedjury.protocol.transport.mqtt_client import speaks_five
from fedjury.protocol.transport.mqtt_probe import lets_anybody_in, probe
from fedjury.protocol.transport.once_only import OnceOnlyWarnings

INBOX = 20_000
INBOX_BYTES = 256_000_000
"""What may wait to be read. Beyond either we leave the sockets alone: the broker keeps the rest."""
PATIENCE = 2.0
"""Seconds that a goodbye may take."""
CLEARED = 1_000
"""Topics that are emptied at a time: so many fit among what waits to be sent."""
QUIET = 0.5
"""Seconds in which the next retained message comes, if there is one."""
BUSY = 0.25
"""Seconds without a turn of the loop after which the network thread takes over."""


class MqttTransport:
    """The connections of many principals to one broker; see ``Transport``."""

    def __init__(self, address: BrokerAddress, run: str, *, sole: bool = False) -> None:
        """``sole``: it ends when another connects under the name of one of its parties."""
        self.codecs: dict[type[Message], str] = {}
        self.topics = address.topics
        self.decoder = Decoder(self.topics)
        self.traffic = Traffic()
        self._address, self.run = address, run
        self.pool = ConnectionPool(address, run, self._heard, sole=sole)
        self._encoder = Encoder(self.notices.add)
        self.inbox: deque[tuple[str, str, bytes]] = deque()
        self._heard_bytes = 0
        """Counted by who runs the loop, as ``traffic.received`` is by who reads: no lock is due."""
        self._broadcast = {self.topics.where(run, kind): b"" for kind in codec.BROADCAST}
        """What came last on the topics that everybody hears."""
        self._found: set[str] | None = None
        """Topics on which there is something, once all is to be forgotten."""
        self._protocol = 0
        self._last_turn = 0.0
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._claims = 0
        self._ended = threading.Event()
        self._network_thread = threading.Thread(target=self._run_network, name="mqtt", daemon=True)

    def open(self, principal: str = "") -> Self:
        """Find the broker and start to keep the connections; returns itself.

        ``principal``: one of those that will join, who looks whether the broker lets us in.

        Raises
        ------
        TransportError
            If the broker cannot be reached, or does not let us in.
        """
        self._protocol, self.pool.limits = probe(self._address, principal)
        if lets_anybody_in(self._address):
            self.notices.add(reasons.open_to_all(str(self._address)), "open to all")
        self.pool.open(self._protocol)
        self._network_thread.start()
        return self

    def must_carry(self, size: int) -> None:
        """Make sure that the broker takes messages of so many bytes.

        Raises
        ------
        TransportError
            If it says that it does not.
        """
        if text := reasons.too_small(self._address, self.pool.limits, size):
            raise TransportError(text)

    @property
    def speaks(self) -> str:
        """The version of MQTT in use, and whether it is encrypted."""
        return "MQTT 5" if speaks_five(self._protocol) else "MQTT 3.1.1"

    @property
    def connections(self) -> int:
        """How many parties are connected right now."""
        return self.pool.connections

    @property
    def outside(self) -> Mapping[str, str]:
        """Who is not let in, or cannot get there -> why."""
        return dict(self.pool.troubles.outside)

    @property
    def notices(self) -> OnceOnlyWarnings:
        """What people should know of the connections."""
        return self.pool.troubles.notices

    @property
    def dropped(self) -> int:
        """How many messages the broker has thrown away since we look: of anybody, for anybody."""
        return self.pool.drops.total

    # What the owner calls.

    def join(
        self,
        name: str,
        *kinds: type[Message],
        presence: bool = True,
        abilities: Abilities = EVERY_AGENT,
        serves: Serving | None = None,
    ) -> None:
        """Connect a party that wants these kinds; it reconnects by itself."""
        filters = self.topics.filters(self.run, kinds)
        with self.held():
            self.pool.add(name, filters, presence=presence, abilities=abilities, serves=serves)

    def watch_drops(self, name: str) -> None:
        """Tell a principal how many messages the broker drops, if the broker reports it."""
        with self.held():
            self.pool.watch_drops(name)

    def fetch(self, name: str, kind: type[Message], value: object = "") -> None:
        """Ask once, for one party, for a retained message; it unsubscribes when that has come."""
        with self.held():
            self.pool.subscribe(name, self.topics.where(self.run, kind, value))

    def listen(self, name: str, *kinds: type[Message]) -> None:
        """Let a party that has joined hear what it alone is told, of these kinds."""
        with self.held():
            for kind in kinds:
                self.pool.subscribe(name, self.topics.where(self.run, kind, name), once=False)

    def send(self, name: str, message: Message) -> None:
        """Publish through the party's own connection; returns at once.

        Unless another is being connected: that may take seconds where the broker is far or gone.
        """
        payload = self._encoder.encode(message, self.codecs.get(type(message), "float32"))
        self.traffic = self.traffic._replace(sent=self.traffic.sent + len(payload))
        with self.held():
            self.pool.publish(name, message, payload)

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        with self.held():
            self.pool.publish(name, message, b"")

    def forget(self, name: str) -> int:
        """Remove all that is retained of this run; returns how many topics that were."""
        result: set[str] = set()
        before = -1
        with self.held():
            self._found = result
            self.pool.give_no_signs()
            self.inbox.clear()  # what waits there would end our waiting
            self._heard_bytes = self.traffic.received
            for topic in self.topics.all_of(self.run):
                self.pool.subscribe(name, topic, once=False)
        until = time.monotonic() + PATIENCE
        while len(result) != before and time.monotonic() < until:
            before = len(result)
            self._wait(QUIET)
        emptied, until = sorted(result), time.monotonic() + PATIENCE
        for start in range(0, len(emptied), CLEARED):
            with self.held():
                self.pool.empty(name, emptied[start : start + CLEARED])
            while self.pool.unfinished() and time.monotonic() < until:
                self._wait(0.02)
        return len(emptied)

    def receive(self, timeout: float) -> Delivery | None:
        """Wait up to ``timeout`` seconds for the next message."""
        if not self.inbox:
            self._wait(timeout)
        if not self.inbox:
            return None
        name, topic, payload = self.inbox.popleft()
        self.traffic = self.traffic._replace(received=self.traffic.received + len(payload))
        return Delivery(name, self.decoder.decode(topic, payload), len(payload))

    def close(self, *, forget: bool = False) -> None:
        """Send what is still to be sent, say goodbye for everyone, and leave.

        ``forget``: without leaving behind that they were there.
        """
        if self._ended.is_set() or not self._network_thread.is_alive():  # or it was never opened
            return
        until = time.monotonic() + PATIENCE
        self._claims += 1
        self.pool.wake()
        # An interrupt between taking the lock and knowing it leaves it taken for ever; and who has
        # it may be connecting to a broker that does not answer.
        if self._lock.acquire(timeout=PATIENCE):
            self._part(until, forget=forget)
            self._lock.release()
        self._ended.set()
        self._network_thread.join(max(0.0, until - time.monotonic()))
        self.pool.close()

    def _part(self, until: float, *, forget: bool) -> None:
        """Say goodbye, wait until it has been heard, and hang up."""
        self.pool.say_goodbye(forget=forget)
        with contextlib.suppress(TransportError):
            while self.pool.unfinished() and time.monotonic() < until:
                self._guarded_turn(0.05)
        self.pool.hang_up(until)

    # Who runs the loop.

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Take the loop from the network thread, who gives way at the end of its turn."""
        if not self._lock.acquire(blocking=False):
            self._claims += 1
            self.pool.wake()
            try:
                self._lock.acquire()
            finally:
                self._claims -= 1
        try:
            yield
        finally:
            self._lock.release()

    def _wait(self, timeout: float) -> None:
        """Run the loop until there is a message, or the time is up."""
        until = time.monotonic() + timeout
        with self.held():
            while True:
                self._guarded_turn(max(0.0, until - time.monotonic()))
                if self.inbox or time.monotonic() >= until:
                    return

    def _run_network(self) -> None:
        """Run the loop whenever nobody else has done so for a while."""
        while not self._ended.wait(BUSY):
            idle = time.monotonic() - self._last_turn > BUSY
            if idle and self._failure is None and self._lock.acquire(blocking=False):
                try:
                    while not self._claims and not self._ended.is_set():
                        self._guarded_turn(BUSY)
                except TransportError:
                    pass  # its owner is told when it next wants something
                finally:
                    self._lock.release()

    def _guarded_turn(self, timeout: float) -> None:
        """Turn the loop once, but leave the sockets alone where too much waits to be read."""
        waiting = self._heard_bytes - self.traffic.received
        full = len(self.inbox) > INBOX or waiting > INBOX_BYTES
        if self._failure is None:
            try:
                self.pool.turn(timeout, reading=not full)
            except Exception as why:
                self._failure = why
        self._last_turn = time.monotonic()
        if isinstance(self._failure, TransportError):
            raise self._failure
        if self._failure is not None:
            raise TransportError(f"the connection to the broker broke: {self._failure}")

    def _heard(self, name: str, topic: str, payload: bytes) -> None:
        """Take a message from the network."""
        if self._found is not None:
            if payload:
                self._found.add(topic)
            return
        if self.topics.is_retained_clear(topic, payload):
            return
        if topic in self._broadcast:  # hundreds get the same: one copy of it waits, not hundreds
            if self._broadcast[topic] != payload:
                self._broadcast[topic] = payload
            payload = self._broadcast[topic]
        self._heard_bytes += len(payload)
        self.inbox.append((name, topic, payload))
