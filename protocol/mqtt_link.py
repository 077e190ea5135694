"""The doors to a real broker: one MQTT connection a party, one selector loop for them all.

paho-mqtt in its external-loop mode: a thread of ours watches all sockets of the process with one
epoll; paho's own threads stop at 340 clients. Callbacks only enqueue. Everything that touches a
client happens on the loop's thread; other threads hand it a task and wake it.

MQTT 5 where the broker speaks it, else 3.1.1: nothing here depends on more than topic and payload.
"""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import resource
import selectors
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from protocol import codec, topics
from protocol.codec import Decoder
from protocol.link import Delivery, LinkError, Traffic
from protocol.messages import History, Message, Presence
from protocol.topics import CHANNELS

OPEN_FILES = 65_536
"""A party is an open file; more than this no process of ours needs."""
KEEPALIVE = 300
CONNECTING = 64
"""Connections opened at a time: more overflow a broker's listen queue and take longer."""
INBOX = 20_000
INBOX_BYTES = 256_000_000
"""What may wait to be read. Beyond either we leave the sockets alone: the broker keeps the rest."""
TICK = 5.0
PATIENCE = 5.0
BACKOFF = (0.5, 30.0)
"""Seconds before the first and, doubling, the latest attempts to connect again."""


class BrokerAddress(NamedTuple):
    """Where a broker listens and who we are to it."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def probe(address: BrokerAddress) -> int:
    """Return the newest protocol that the broker speaks, as paho numbers it.

    Raises
    ------
    LinkError
        If nobody answers there, or we are not let in; one sentence.
    """
    try:
        socket.create_connection((address.host, address.port), timeout=PATIENCE).close()
    except OSError as why:
        raise LinkError(
            f"no MQTT broker answers at {address} ({why.strerror or why}); start one with "
            "'python -m broker.local', or say where one is with --broker host:port"
        ) from why
    for protocol in (mqtt.MQTTv5, mqtt.MQTTv311):
        answer = _handshake(address, protocol)
        if answer == "Success":
            return int(protocol)
        if answer and protocol == mqtt.MQTTv311:
            raise LinkError(f"the broker at {address} does not let us in: {answer}")
    raise LinkError(f"what listens at {address} does not speak MQTT")


def _handshake(address: BrokerAddress, protocol: int) -> str:
    """Connect once and return what the broker said, or nothing if it said nothing."""
    said: list[str] = []
    client = _client(f"probe-{uuid.uuid4().hex[:16]}", address, protocol)
    client.on_connect = lambda *args: said.append(str(args[3]))
    deadline = time.monotonic() + PATIENCE
    try:
        client.connect(address.host, address.port)
        while (
            not said and time.monotonic() < deadline and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS
        ):
            pass
        client.disconnect()
    except (OSError, ValueError):
        return ""
    return said[0] if said else ""


def _client(name: str, address: BrokerAddress, protocol: int) -> mqtt.Client:
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        protocol=MQTTProtocolVersion(protocol),
        reconnect_on_failure=False,
    )
    client.max_inflight_messages_set(100)
    if address.username is not None:
        client.username_pw_set(address.username, address.password)
    return client


def _hang_up(client: mqtt.Client) -> None:
    """End a connection in the broker's eyes too: one that only vanishes sets off the last will."""
    client.on_disconnect = client.on_socket_close = client.on_socket_unregister_write = None
    client.on_socket_register_write = None
    sock: Any = client.socket()
    if sock is not None:
        client.disconnect()
        client.loop_write()
        sock.close()


@cache
def _properties(content_type: str, expiry: int | None) -> Properties:
    """Make what MQTT 5 says beside a payload, once for all messages of a kind."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type
    if expiry is not None:
        properties.MessageExpiryInterval = expiry
    return properties


class _Door:
    """One party's connection. Only the loop's thread touches it."""

    def __init__(self, name: str, client: mqtt.Client, filters: list[str], presence: bool) -> None:
        self.name = name
        self.client = client
        self.filters = filters
        self.presence = presence
        self.retained: dict[str, tuple[Message, bytes]] = {}
        """What it retained at the broker, by topic: a broker that was restarted has forgotten."""
        self.unacknowledged = 0
        self.failures = 0
        self.connected = False


class MqttHub:
    """The doors of many parties to a broker; see ``protocol.link.Hub``."""

    def __init__(self, address: BrokerAddress, run: str, codec: str = "float32") -> None:
        self.codec = codec
        self.decoder = Decoder()
        self.traffic = Traffic()
        self.connections = 0
        """How many parties are connected right now."""
        self._address, self._run = address, run
        self._inbox: queue.Queue[tuple[str, str, bytes]] = queue.Queue()
        self._tasks: deque[Callable[[], None]] = deque()
        self._doors: dict[str, _Door] = {}
        self._due: list[tuple[float, str]] = []
        self._heard_bytes = 0
        self._protocol = 0
        self._closing_until: float | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run_loop, name="mqtt", daemon=True)

    # What other threads call.

    def open(self) -> MqttHub:
        """Find the broker and start the loop; returns itself.

        Raises
        ------
        LinkError
            If the broker cannot be reached.
        """
        self._protocol = probe(self._address)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        self._thread.start()
        return self

    @property
    def speaks(self) -> str:
        """The version of MQTT in use."""
        return "MQTT 5" if self._protocol == mqtt.MQTTv5 else "MQTT 3.1.1"

    def join(self, name: str, *kinds: type[Message], presence: bool = True) -> None:
        """Connect a party that wants these kinds; it reconnects by itself."""
        filters = [topics.topic_for(self._run, kind) for kind in kinds]
        self._do(lambda: self._add(name, filters, presence))

    def fetch(self, name: str, version: int) -> None:
        """Ask, for one party, for the retained history of one version."""
        topic = topics.topic_for(self._run, History, version)
        self._do(lambda: self._subscribe(self._doors[name], topic))

    def send(self, name: str, message: Message) -> None:
        """Publish through the party's own connection; returns at once."""
        payload = codec.encode(message, self.codec)
        self.traffic = self.traffic._replace(sent=self.traffic.sent + len(payload))
        self._do(lambda: self._publish(self._doors[name], message, payload))

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        self._do(lambda: self._publish(self._doors[name], message, b""))

    def receive(self, timeout: float) -> Delivery | None:
        """Wait up to ``timeout`` seconds for the next message."""
        try:
            name, topic, payload = self._inbox.get(timeout=timeout)
        except queue.Empty:
            if self._failure is not None:
                raise LinkError(f"the connection to the broker broke: {self._failure}") from None
            return None
        self.traffic = self.traffic._replace(received=self.traffic.received + len(payload))
        return Delivery(name, self.decoder.decode(topic, payload))

    def close(self) -> None:
        """Send what is still to be sent, say goodbye for everyone, and leave."""
        self._do(self._say_goodbye)
        self._thread.join(PATIENCE + 1)

    # What happens on the loop's thread.

    def _do(self, task: Callable[[], None]) -> None:
        self._tasks.append(task)
        # It fails where the loop has ended, or so many wake-ups wait that one more says nothing.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"!")

    def _run_loop(self) -> None:
        try:
            misc = time.monotonic() + TICK
            while not self._finished():
                self._turn()
                if time.monotonic() > misc:
                    misc = time.monotonic() + TICK
                    for door in list(self._doors.values()):
                        door.client.loop_misc()
        except Exception as why:
            self._failure = why
        finally:
            for door in self._doors.values():
                _hang_up(door.client)
            self._selector.close()
            self._wake_in.close()
            self._wake_out.close()

    def _turn(self) -> None:
        """Wait for something to do, and do it."""
        waiting = self._heard_bytes - self.traffic.received
        full = self._inbox.qsize() > INBOX or waiting > INBOX_BYTES
        for key, ready in self._selector.select(self._pause()):
            if key.data is None:
                self._wake_out.recv(4096)
            else:
                if ready & selectors.EVENT_READ and not full:
                    key.data.client.loop_read()
                if ready & selectors.EVENT_WRITE and key.data.client.socket() is not None:
                    key.data.client.loop_write()
        if full:
            time.sleep(0.005)
        while self._tasks:
            self._tasks.popleft()()
        self._connect_due()

    def _pause(self) -> float:
        if self._tasks:
            return 0.0
        until = min((self._due[0][0] - time.monotonic() if self._due else TICK), TICK)
        return max(0.0, min(until, 0.05 if self._closing_until or self._due else TICK))

    def _add(self, name: str, filters: list[str], presence: bool) -> None:
        client = _client(f"{self._run}.{name}", self._address, self._protocol)
        door = _Door(name, client, filters, presence)
        if presence:
            will = Presence(name, online=False, since=time.time())
            topic, payload = topics.topic_of(self._run, will), codec.encode(will)
            client.will_set(topic, payload, qos=1, retain=True)
        client.on_connect = lambda *args: self._connected(door, args[3])
        client.on_disconnect = lambda *_: self._disconnected(door)
        client.on_message = lambda *args: self._heard(name, args[2].topic, args[2].payload)
        client.on_publish = lambda *_: self._acknowledged(door)
        client.on_socket_close = lambda *args: self._forget(args[2])
        client.on_socket_register_write = lambda *args: self._watch(door, args[2], writing=True)
        client.on_socket_unregister_write = lambda *args: self._watch(door, args[2], writing=False)
        self._doors[name] = door
        heapq.heappush(self._due, (time.monotonic(), name))

    def _connect_due(self) -> None:
        now = time.monotonic()
        if not self._due or self._due[0][0] > now:
            return
        connecting = len(self._selector.get_map()) - 1 - self.connections
        while self._due and self._due[0][0] <= now and connecting < CONNECTING:
            door = self._doors[heapq.heappop(self._due)[1]]
            try:
                door.client.connect(self._address.host, self._address.port, KEEPALIVE)
            except OSError:
                self._later(door)
                break  # who does not answer one does not answer the next
            self._watch(door, door.client.socket(), writing=door.client.want_write())
            connecting += 1

    def _later(self, door: _Door) -> None:
        """Try again after a pause that doubles, with jitter, so that not all come at once."""
        pause = min(BACKOFF[1], BACKOFF[0] * 2 ** min(door.failures, 20)) * random.uniform(0.5, 1.5)
        door.failures += 1
        heapq.heappush(self._due, (time.monotonic() + pause, door.name))

    def _connected(self, door: _Door, answer: Any) -> None:
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
            self._publish(door, *self._presence(door, online=self._closing_until is None))

    def _subscribe(self, door: _Door, topic: str) -> None:
        if topic not in door.filters:
            door.filters.append(topic)  # so that a new connection asks for it again
        door.client.subscribe(topic, qos=1)

    def _disconnected(self, door: _Door) -> None:
        self.connections -= door.connected
        door.connected = False
        if self._closing_until is None:
            self._later(door)

    def _presence(self, door: _Door, *, online: bool) -> tuple[Message, bytes]:
        message = Presence(door.name, online, round(time.time(), 3))
        return message, codec.encode(message)

    def _publish(self, door: _Door, message: Message, payload: bytes) -> None:
        channel = CHANNELS[type(message)]
        says_more = self._protocol == mqtt.MQTTv5 and payload
        properties = _properties(channel.content_type, channel.expiry) if says_more else None
        topic = topics.topic_of(self._run, message)
        if channel.retain and not isinstance(message, Presence):
            door.retained.pop(topic, None)
            if payload:
                door.retained[topic] = message, payload
        door.unacknowledged += 1
        door.client.publish(topic, payload, channel.qos, channel.retain, properties)

    def _heard(self, name: str, topic: str, payload: bytes) -> None:
        if not topics.says_nothing(topic, payload):
            self._heard_bytes += len(payload)
            self._inbox.put((name, topic, payload))

    def _acknowledged(self, door: _Door) -> None:
        door.unacknowledged -= 1

    def _watch(self, door: _Door, sock: Any, *, writing: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        try:
            self._selector.modify(sock, events, door)
        except KeyError:
            self._selector.register(sock, events, door)

    def _forget(self, sock: Any) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it may never have been watched
            self._selector.unregister(sock)

    def _say_goodbye(self) -> None:
        self._closing_until = time.monotonic() + PATIENCE
        for door in self._doors.values():
            if door.presence and door.connected:
                self._publish(door, *self._presence(door, online=False))

    def _finished(self) -> bool:
        """Say whether we are closing and everything sent has been acknowledged, or time is up."""
        if self._closing_until is None:
            return False
        # A door without failures is connected, or has yet to try: what it has to send can be sent.
        doors = self._doors.values()
        waiting = any(d.unacknowledged > 0 and (d.connected or not d.failures) for d in doors)
        return not waiting or time.monotonic() >= self._closing_until
