"""What happens on the network, one turn of the loop after the other; see ``mqtt_transport.py``.

Nothing here is safe to use by two threads at once: the transport holds a lock.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from fedjury.protocol import codec
from fedjury.protocol.cells import CellWorker
from fedjury.protocol.credentials import BrokerAddress, Login, client_id_of, login_of
from fedjury.protocol.messages import EVERY_AGENT, Abilities, AggregatorPresence, Message, Serving
from fedjury.protocol.topics import ROOT
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.mqtt_client import (
    FULL,
    Client,
    limits_of,
    reason_of,
    speaks_five,
)
from fedjury.protocol.transport.mqtt_connection import MqttConnection, events, hang_up, presence_of
from fedjury.protocol.transport.once_only import DROPPED, Drops
from fedjury.protocol.transport.open_files import make_room
from fedjury.protocol.transport.reconnect import ReconnectQueue
from fedjury.protocol.transport.succession import Place
from fedjury.protocol.transport.troubles import Troubles

CONNECTING = 32
"""Connections opened at a time. Three processes may do so at once before a broker's listen queue
(Mosquitto: 100) overflows, and each that does not fit then waits for seconds."""
TICK = 5.0
WELCOME = 10.0
"""Seconds after which a broker that has not answered is asked again."""
SETTLED = 10.0
"""Seconds after which a connection counts as good: who is cut off sooner waits longer each time."""
HEAD = 100
"""Bytes of a packet besides topic and payload, at the most."""
CLOSING = 0.5
"""Seconds that the broker has to close its ends."""


class ConnectionPool:
    """The connections of many parties, and the selector that watches them."""

    def __init__(
        self,
        address: BrokerAddress,
        run: str,
        heard: Callable[[str, str, bytes], None],
        *,
        sole: bool,
    ) -> None:
        self.connections = 0
        """How many parties are connected right now."""
        self.limits = reasons.BrokerLimits()
        """What the broker takes, as far as it is known before a party is connected."""
        self.troubles = Troubles(run, sole=sole)
        self.drops = Drops()
        self.connections_by_name: dict[str, MqttConnection] = {}
        self._address, self._run, self._sole = address, run, sole
        self._topics = address.topics
        self._deliver = heard
        self._reconnect = ReconnectQueue()
        self._protocol = 0
        self._next_look = 0.0
        self._every = min(TICK, address.keepalive / 4)
        self._closing = False
        self._serving: list[MqttConnection] = []
        """Those of who serves the run, and gives signs of life."""

    def open(self, protocol: int) -> None:
        """Begin, with the version of MQTT that the broker speaks; raises as ``make_room``."""
        self._protocol = protocol
        make_room(1)
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_out, selectors.EVENT_READ)

    def close(self) -> None:
        """Let go of what the system lent us."""
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def wake(self) -> None:
        """End the turn that waits; the one thing that any thread may do."""
        # It fails where so many wake-ups wait that one more says nothing.
        with contextlib.suppress(OSError):
            self._wake_in.send(b"!")

    # What the transport asks for.

    def add(
        self,
        name: str,
        filters: list[str],
        *,
        presence: bool,
        abilities: Abilities = EVERY_AGENT,
        serves: Serving | None = None,
    ) -> None:
        """Let a party connect that hears these topics; one without its secret stays away."""
        login = self._login(name)
        place = None
        if isinstance(serves, AggregatorPresence):
            place = Place(self._address, self._run, name, serves)
        client = Client(
            self._client_id(name, login),
            login or Login(),
            self._protocol,
            lambda topic, payload: self._heard(name, topic, payload),
        )
        connection = MqttConnection(
            name,
            client,
            partial(self._topics.of, self._run),
            [*filters, place.topic] if place else filters,
            presence_of(name, serves, abilities if presence else None),
            self.limits,
            place,
        )
        connection.remembers = not isinstance(serves, CellWorker)
        if place:
            self._serving.append(connection)
        client.on_connect = lambda *args: self._connected(connection, args[3], args[4])
        client.on_disconnect = lambda *args: self._disconnected(connection, args[2], args[3])
        client.on_publish = lambda *args: self._acknowledged(connection, args[3])
        client.on_socket_close = lambda *args: self._forget(connection, args[2])
        self.connections_by_name[name] = connection
        connection.away = login is None
        if not connection.away:
            self._reconnect.add(name, time.monotonic())

    def _client_id(self, name: str, login: Login | None) -> str:
        """Return the client id of a party: runs of one name below two roots are two."""
        root = "" if self._topics.root == ROOT else f"{self._topics.root}/"
        plain = f"{root}{self._run}.{name}"
        return client_id_of(self._address, plain, name, login) if login else plain

    def _login(self, name: str) -> Login | None:
        """Find how a party logs in; who is one of many need not be able to."""
        try:
            return login_of(self._address, name)
        except TransportError as why:
            if self._sole:
                raise
            self.troubles.notices.add(f"{name} stays away: {why}", "no secret")
            self.troubles.outside[name] = str(why)
            return None

    def subscribe(self, name: str, topic: str, *, once: bool = True) -> None:
        """Let a party hear a topic; ``once``: until the first message has come."""
        connection = self.connections_by_name[name]
        connection.fetch(topic, once=once)
        self._flush(connection)

    def watch_drops(self, name: str) -> None:
        """Tell a principal how many messages the broker drops."""
        self.subscribe(name, DROPPED, once=False)

    def publish(self, name: str, message: Message, payload: bytes) -> None:
        """Send a message of a party, or remove what is retained where it would stand."""
        connection = self.connections_by_name[name]
        if connection.away:
            return  # it would wait for ever to be sent
        self._say(connection, message, payload)
        self._flush(connection)

    def empty(self, name: str, retained: Iterable[str]) -> None:
        """Remove what is retained on these topics."""
        connection = self.connections_by_name[name]
        connection.retained.clear()
        taken = (connection.client.publish(topic, b"", qos=1, retain=True).rc for topic in retained)
        connection.unacknowledged += sum(result != FULL for result in taken)
        self._flush(connection)

    def give_no_signs(self) -> None:
        """Say nothing more by itself."""
        self._serving.clear()

    def say_goodbye(self, *, forget: bool) -> None:
        """Tell the others that our parties leave; ``forget``: and leave nothing retained."""
        self._closing = True
        for connection in self.connections_by_name.values():
            if connection.presence is not None and connection.connected:
                message = connection.presence(False)
                self._say(connection, message, codec.encode(message))
                if forget:
                    self._say(connection, message, b"")
                self._flush(connection)

    def unfinished(self) -> bool:
        """Say whether something that we sent has yet to be acknowledged."""
        # Who has yet to connect for the first time may; who was cut off need not come back.
        doors = self.connections_by_name.values()
        return any(d.unacknowledged > 0 and (d.connected or not d.before) for d in doors)

    def hang_up(self, until: float) -> None:
        """Close all connections, the broker first, if it does so in time."""
        hang_up(
            self.connections_by_name.values(),
            self._selector,
            min(until, time.monotonic() + CLOSING),
        )

    # The loop.

    def turn(self, timeout: float, *, reading: bool) -> None:
        """Wait for something to do, and do it; what has come is left where it is unless we read.

        Raises
        ------
        TransportError
            If a party that is the only one of its name can go on no longer: another has taken its
            place, or the broker will never take what it says.
        """
        for key, ready in self._selector.select(self._pause(timeout)):
            if key.data is None:
                self._wake_out.recv(4096)
                continue
            connection: MqttConnection = key.data
            if ready & selectors.EVENT_READ and reading:
                connection.client.read()
            connection.leave_fetched()
            self._flush(connection)
        now = time.monotonic()
        if not reading:
            time.sleep(0.005)
        if self._reconnect:
            self._connect_due(now)
        for connection in self._serving:
            self._give_sign(connection, now)
        if now > self._next_look:
            self._next_look = now + self._every
            self._look_after(now, reading=reading)
        if self.troubles.final:
            raise TransportError(self.troubles.final)

    def _give_sign(self, connection: MqttConnection, now: float) -> None:
        """Let it be known, every other second, that the run's aggregator is at work."""
        place = connection.place
        if place and connection.connected and not self._closing and place.due(now):
            self._say(connection, place.heartbeat, codec.encode(place.heartbeat))
            self._flush(connection)

    def _look_after(self, now: float, *, reading: bool) -> None:
        """Ping where it is time to, and let go of who has not answered for too long."""
        for connection in list(self.connections_by_name.values()):
            if not reading:  # the broker may have answered long ago
                connection.client.trust()
            connection.client.loop_misc()
            sock: Any = connection.client.socket()
            waits = reading and sock is not None and not connection.connected
            if waits and now - connection.since > WELCOME:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # the selector tells, and it tries again

    def _pause(self, timeout: float) -> float:
        if self._reconnect:
            timeout = min(timeout, 0.05, self._reconnect.wait(time.monotonic()))
        return min(timeout, self._every)

    def _flush(self, connection: MqttConnection) -> None:
        """Write what can be written now; have the selector tell when the rest can.

        Never from inside a callback: there paho holds a lock that a write that fails wants too.
        """
        client = connection.client
        if client.want_write():
            client.loop_write()
        wanted = client.want_write()
        if wanted != connection.writing and (sock := client.socket()) is not None:
            connection.writing = wanted
            self._selector.modify(sock, events(wanted), connection)

    def _connect_due(self, now: float) -> None:
        connecting = len(self._selector.get_map()) - 1 - self.connections
        while connecting < CONNECTING and (name := self._reconnect.next(now)) is not None:
            connection = self.connections_by_name[name]
            connection.due, connection.since = False, now
            if self._sole and connection.place and connection.before:
                self.troubles.end_with(connection.place.followed())
                if self.troubles.final:
                    return
            try:
                connection.client.connect(
                    self._address.host, self._address.port, self._address.keepalive
                )
            except OSError as why:
                if own := reasons.ours(why):  # the broker may well be there
                    self.troubles.notices.add(f"{name} cannot connect: {own}", own)
                    self._turn_away(connection, own)
                    break
                if text := reasons.of_tls(why, self._address.host):
                    self.troubles.notices.add(f"{name} cannot connect to the broker: {text}", text)
                connection.failures = 0
                connection.cut_off.clear()  # a broker that went away cuts off everybody
                if not connection.due:
                    connection.due = True
                    self._reconnect.unreachable(name, time.monotonic())
                break
            self._reconnect.reached()
            sock: Any = connection.client.socket()
            if sock is None:  # it was cut off at once
                self._turn_away(connection, reasons.SILENT)
                continue
            # Fetching and voting are small packets in turn: each would wait for the last (40 ms).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.writing = connection.client.want_write()
            self._selector.register(sock, events(connection.writing), connection)
            connecting += 1

    def _later(self, connection: MqttConnection) -> None:
        """Try again after a pause."""
        if connection.due:
            return  # paho tells twice of a connection that breaks while it reads and answers
        connection.due = True
        self._reconnect.add(connection.name, time.monotonic(), connection.failures)
        connection.failures += 1

    def _turn_away(self, connection: MqttConnection, why: str) -> None:
        """Note why somebody is not let in, and let it try again after a pause."""
        self.troubles.outside[connection.name] = why
        self._later(connection)

    # What paho tells.

    def _connected(self, connection: MqttConnection, answer: Any, more: Any) -> None:
        if answer.is_failure:
            self.troubles.refused(connection, answer)
            return
        self.troubles.outside.pop(connection.name, None)
        connection.limits = limits_of(more)
        again, connection.before = connection.before, True
        connection.connected, connection.since = True, time.monotonic()
        self.connections += 1
        if connection.filters:
            connection.client.subscribe([(topic, 1) for topic in connection.filters])
        if again:
            for message, payload in list(connection.retained.values()):
                self._say(connection, message, payload)
        if connection.presence is not None:
            there = connection.presence(not self._closing)
            self._say(connection, there, codec.encode(there))

    def _disconnected(self, connection: MqttConnection, flags: Any, answer: Any) -> None:
        told = (
            reason_of(answer) if flags.is_disconnect_packet_from_server else reasons.Reason(0, "")
        )
        now = time.monotonic()
        rival = told.code == reasons.TAKEN_OVER  # who, however long it stayed, comes again
        if connection.connected and not rival and now - connection.since > SETTLED:
            connection.failures = 0
        self.troubles.parted(connection, told, now=now)
        self.connections -= connection.connected
        connection.connected = False
        if not self._closing:
            self._later(connection)

    def _heard(self, name: str, topic: str, payload: bytes) -> None:
        if topic == DROPPED:
            self.drops.on_message(payload)
            return
        connection = self.connections_by_name[name]
        if connection.place and topic == connection.place.topic:
            self._heard_of_place(connection, connection.place, payload)
            return
        self._deliver(name, topic, payload)
        connection.has_come(topic)

    def _heard_of_place(self, connection: MqttConnection, place: Place, payload: bytes) -> None:
        """Give way to an aggregator that follows ours; correct what else is said of its place."""
        self.troubles.end_with(place.follower(bytes(payload)))
        if not self._closing and connection.presence and place.spoilt(bytes(payload)):
            there = connection.presence(True)
            self._say(connection, there, codec.encode(there))

    def _acknowledged(self, connection: MqttConnection, answer: Any) -> None:
        connection.unacknowledged -= 1
        if (reason := reason_of(answer)).refuses:
            self.troubles.no_receipt(connection.name, reason)

    def _forget(self, connection: MqttConnection, sock: Any) -> None:
        connection.writing = False
        with contextlib.suppress(KeyError, ValueError):  # it may never have been watched
            self._selector.unregister(sock)

    def _say(self, connection: MqttConnection, message: Message, payload: bytes) -> None:
        topic = self._topics.of(self._run, message)
        if text := reasons.too_small(
            self._address, connection.limits, len(payload) + len(topic) + HEAD
        ):
            self.troubles.unsent(text, "too large", final=True)
        elif not connection.say(topic, message, payload, five=speaks_five(self._protocol)):
            text = f"too many messages wait to be sent by {connection.name}: a message is lost"
            self.troubles.unsent(text, "full", final=False)
