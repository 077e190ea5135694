"""The doors to a real broker: one MQTT connection a party, one selector loop for them all.

One epoll watches all sockets of the process (paho's own threads stop at 340 clients), and it runs
on the thread of whoever waits for a message: reading, decoding and sending happen on one thread,
which costs a third of what handing every message from a thread to another does. While that thread
is busy with other things, such as training, a keeper takes its place, so that connections stay
alive and what was sent goes out. Whoever holds the lock runs the loop.

MQTT 5 where the broker speaks it, else 3.1.1: nothing here depends on more than topic and payload.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from protocol import codec, topics
from protocol.codec import Decoder, Encoder
from protocol.link import Delivery, LinkError, Traffic
from protocol.messages import Message, Presence
from protocol.mqtt_client import (
    BrokerAddress,
    Client,
    Door,
    allow_many_files,
    probe,
    properties,
    speaks_five,
)
from protocol.topics import CHANNELS

__all__ = ["BrokerAddress", "MqttHub", "probe"]

KEEPALIVE = 300
CONNECTING = 32
"""Connections opened at a time. Three processes may do so at once before a broker's listen queue
(Mosquitto: 100) overflows, and each that does not fit then waits for seconds."""
INBOX = 20_000
INBOX_BYTES = 256_000_000
"""What may wait to be read. Beyond either we leave the sockets alone: the broker keeps the rest."""
TICK = 5.0
PATIENCE = 5.0
BACKOFF = (0.5, 30.0)
"""Seconds before the first and, doubling, the latest attempts to connect again."""
BUSY = 0.25
"""Seconds without a turn of the loop after which the keeper takes over."""


class MqttHub:
    """The doors of many parties to a broker; see ``protocol.link.Hub``."""

    def __init__(self, address: BrokerAddress, run: str) -> None:
        self.codecs: dict[type[Message], str] = {}
        self._encoder = Encoder()
        self.decoder = Decoder()
        self.traffic = Traffic()
        self.connections = 0
        """How many parties are connected right now."""
        self._address, self._run = address, run
        self._inbox: deque[tuple[str, str, bytes]] = deque()
        self._heard_bytes = 0
        """Counted by who runs the loop, as ``traffic.received`` is by who reads: no lock is due."""
        self._broadcast = {topics.topic_for(run, kind): b"" for kind in codec.BROADCAST}
        """What came last on the topics that everybody hears."""
        self._doors: dict[str, Door] = {}
        self._due: list[tuple[float, str]] = []
        self._protocol = 0
        self._next_misc = 0.0
        self._last_turn = 0.0
        self._closing = False
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._claims = 0
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="mqtt", daemon=True)

    def open(self) -> MqttHub:
        """Find the broker and start to keep the connections; returns itself.

        Raises
        ------
        LinkError
            If the broker cannot be reached.
        """
        self._protocol = probe(self._address)
        allow_many_files()
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._keeper.start()
        return self

    @property
    def speaks(self) -> str:
        """The version of MQTT in use."""
        return "MQTT 5" if speaks_five(self._protocol) else "MQTT 3.1.1"

    # What the owner calls.

    def join(self, name: str, *kinds: type[Message], presence: bool = True) -> None:
        """Connect a party that wants these kinds; it reconnects by itself."""
        filters = [topics.topic_for(self._run, kind) for kind in kinds]
        with self._mine():
            self._add(name, filters, presence)

    def fetch(self, name: str, kind: type[Message], value: object = "") -> None:
        """Ask once, for one party, for a retained message; it unsubscribes when that has come."""
        with self._mine():
            self._subscribe(self._doors[name], topics.topic_for(self._run, kind, value))

    def send(self, name: str, message: Message) -> None:
        """Publish through the party's own connection; returns at once.

        Unless another is being connected: that may take seconds where the broker is far or gone.
        """
        payload = self._encoder.encode(message, self.codecs.get(type(message), "float32"))
        self.traffic = self.traffic._replace(sent=self.traffic.sent + len(payload))
        with self._mine():
            self._publish(self._doors[name], message, payload)
            self._flush(self._doors[name])

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        with self._mine():
            self._publish(self._doors[name], message, b"")
            self._flush(self._doors[name])

    def receive(self, timeout: float) -> Delivery | None:
        """Wait up to ``timeout`` seconds for the next message."""
        if not self._inbox:
            self._wait(timeout)
        if not self._inbox:
            return None
        name, topic, payload = self._inbox.popleft()
        self.traffic = self.traffic._replace(received=self.traffic.received + len(payload))
        return Delivery(name, self.decoder.decode(topic, payload), len(payload))

    def close(self) -> None:
        """Send what is still to be sent, say goodbye for everyone, and leave."""
        if self._ended.is_set():
            return
        self._claims += 1
        self._wake()
        # An interrupt between taking the lock and knowing it leaves it taken for ever.
        if self._lock.acquire(timeout=PATIENCE):
            with contextlib.suppress(LinkError):
                self._part()
            self._lock.release()
        self._ended.set()
        self._keeper.join(PATIENCE)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _part(self) -> None:
        """Say goodbye, wait until it has been heard, and hang up."""
        self._say_goodbye()
        until = time.monotonic() + PATIENCE
        while self._unfinished() and time.monotonic() < until:
            self._guarded_turn(0.05)
        for door in self._doors.values():
            door.client.hang_up()

    # Who runs the loop.

    @contextlib.contextmanager
    def _mine(self) -> Iterator[None]:
        """Take the loop from the keeper, who gives way at the end of its turn."""
        if not self._lock.acquire(blocking=False):
            self._claims += 1
            self._wake()
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
        with self._mine():
            while True:
                self._guarded_turn(max(0.0, until - time.monotonic()))
                if self._inbox or time.monotonic() >= until:
                    return

    def _keep(self) -> None:
        """Run the loop whenever nobody else has done so for a while."""
        while not self._ended.wait(BUSY):
            idle = time.monotonic() - self._last_turn > BUSY
            if idle and self._failure is None and self._lock.acquire(blocking=False):
                try:
                    while not self._claims and not self._ended.is_set():
                        self._guarded_turn(BUSY)
                except LinkError:
                    pass  # its owner is told when it next wants something
                finally:
                    self._lock.release()

    def _wake(self) -> None:
        # It fails where so many wake-ups wait that one more says nothing.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"!")

    def _guarded_turn(self, timeout: float) -> None:
        if self._failure is None:
            try:
                self._turn(timeout)
            except Exception as why:
                self._failure = why
        if self._failure is not None:
            raise LinkError(f"the connection to the broker broke: {self._failure}")

    # What happens under the lock.

    def _turn(self, timeout: float) -> None:
        """Wait for something to do, and do it."""
        waiting = self._heard_bytes - self.traffic.received
        full = len(self._inbox) > INBOX or waiting > INBOX_BYTES
        for key, ready in self._selector.select(self._pause(timeout)):
            if key.data is None:
                self._wake_out.recv(4096)
                continue
            door: Door = key.data
            if ready & selectors.EVENT_READ and not full:
                door.client.read()
            door.leave_fetched()
            self._flush(door)
        self._last_turn = now = time.monotonic()
        if full:
            time.sleep(0.005)
        if self._due:
            self._connect_due(now)
        if now > self._next_misc:
            self._next_misc = now + TICK
            for door in list(self._doors.values()):
                door.client.loop_misc()

    def _pause(self, timeout: float) -> float:
        if self._due:
            timeout = min(timeout, 0.05, max(0.0, self._due[0][0] - time.monotonic()))
        return min(timeout, TICK)

    def _flush(self, door: Door) -> None:
        """Write what can be written now; have the selector tell when the rest can.

        Never from inside a callback: there paho holds a lock that a write that fails wants too.
        """
        client = door.client
        if client.want_write():
            client.loop_write()
        wanted = client.want_write()
        if wanted != door.writing and (sock := client.socket()) is not None:
            door.writing = wanted
            self._selector.modify(sock, _events(wanted), door)

    def _add(self, name: str, filters: list[str], presence: bool) -> None:
        client = Client(
            f"{self._run}.{name}", self._address, self._protocol,
            lambda topic, payload: self._heard(name, topic, payload),
        )  # fmt: skip
        door = Door(name, client, filters, presence)
        if presence:
            will = Presence(name, online=False, since=time.time())
            topic, payload = topics.topic_of(self._run, will), codec.encode(will)
            client.will_set(topic, payload, qos=1, retain=True)
        client.on_connect = lambda *args: self._connected(door, args[3])
        client.on_disconnect = lambda *_: self._disconnected(door)
        client.on_publish = lambda *_: self._acknowledged(door)
        client.on_socket_close = lambda *args: self._forget(door, args[2])
        self._doors[name] = door
        heapq.heappush(self._due, (time.monotonic(), name))

    def _connect_due(self, now: float) -> None:
        connecting = len(self._selector.get_map()) - 1 - self.connections
        while self._due and self._due[0][0] <= now and connecting < CONNECTING:
            door = self._doors[heapq.heappop(self._due)[1]]
            door.due = False
            try:
                door.client.connect(self._address.host, self._address.port, KEEPALIVE)
            except OSError:
                self._later(door)
                break  # who does not answer one does not answer the next
            sock: Any = door.client.socket()
            if sock is None:
                continue  # it was cut off at once, and comes again later
            # Fetching and voting are small packets in turn: each would wait for the last (40 ms).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            door.writing = door.client.want_write()
            self._selector.register(sock, _events(door.writing), door)
            connecting += 1

    def _later(self, door: Door) -> None:
        """Try again after a pause that doubles, with jitter, so that not all come at once."""
        if door.due:
            return  # paho tells twice of a connection that breaks while it reads and answers
        door.due = True
        pause = min(BACKOFF[1], BACKOFF[0] * 2 ** min(door.failures, 20)) * random.uniform(0.5, 1.5)
        door.failures += 1
        heapq.heappush(self._due, (time.monotonic() + pause, door.name))

    def _connected(self, door: Door, answer: Any) -> None:
        if answer.is_failure:
            return  # the broker closes the connection, and we try again later
        again = door.failures > 0
        door.connected, door.failures = True, 0
        self.connections += 1
        if door.filters:
            door.client.subscribe([(topic, 1) for topic in door.filters])
        if again:
            for message, payload in list(door.retained.values()):
                self._publish(door, message, payload)
        if door.presence:
            self._publish(door, *self._presence(door, online=not self._closing))

    def _subscribe(self, door: Door, topic: str) -> None:
        door.fetch(topic)
        self._flush(door)

    def _disconnected(self, door: Door) -> None:
        self.connections -= door.connected
        door.connected = False
        if self._closing:
            door.failures += 1
        else:
            self._later(door)

    def _presence(self, door: Door, *, online: bool) -> tuple[Message, bytes]:
        message = Presence(door.name, online, round(time.time(), 3))
        return message, codec.encode(message)

    def _publish(self, door: Door, message: Message, payload: bytes) -> None:
        channel = CHANNELS[type(message)]
        says_more = speaks_five(self._protocol) and payload
        said = properties(channel.content_type, channel.expiry) if says_more else None
        topic = topics.topic_of(self._run, message)
        if channel.retain and not isinstance(message, Presence):
            door.retained.pop(topic, None)
            if payload:
                door.retained[topic] = message, payload
        door.unacknowledged += 1
        door.client.publish(topic, payload, channel.qos, channel.retain, said)

    def _heard(self, name: str, topic: str, payload: bytes) -> None:
        if topics.says_nothing(topic, payload):
            return
        if topic in self._broadcast:  # hundreds get the same: one copy of it waits, not hundreds
            if self._broadcast[topic] != payload:
                self._broadcast[topic] = payload
            payload = self._broadcast[topic]
        self._heard_bytes += len(payload)
        self._inbox.append((name, topic, payload))
        self._doors[name].has_come(topic)

    def _acknowledged(self, door: Door) -> None:
        door.unacknowledged -= 1

    def _forget(self, door: Door, sock: Any) -> None:
        door.writing = False
        with contextlib.suppress(KeyError, ValueError):  # it may never have been watched
            self._selector.unregister(sock)

    def _say_goodbye(self) -> None:
        self._closing = True
        for door in self._doors.values():
            if door.presence and door.connected:
                self._publish(door, *self._presence(door, online=False))
                self._flush(door)

    def _unfinished(self) -> bool:
        """Say whether something that we sent has yet to be acknowledged."""
        # A door without failures is connected, or has yet to try: what it has to send can be sent.
        doors = self._doors.values()
        return any(d.unacknowledged > 0 and (d.connected or not d.failures) for d in doors)


def _events(writing: bool) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
