"""What happens on the network, one turn of the loop after the other; see ``mqtt_link.py``.

Nothing here is safe to use by two threads at once: the hub holds a lock.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from fedjury.protocol import codec, topics
from fedjury.protocol.credentials import BrokerAddress, Login, login_of
from fedjury.protocol.messages import AggregatorPresence, Message, Presence
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.dialing import Dialing
from fedjury.protocol.transport.door import Door, events, hang_up
from fedjury.protocol.transport.link import LinkError
from fedjury.protocol.transport.mqtt_client import (
    FULL,
    Client,
    limits_of,
    properties,
    reason_of,
    speaks_five,
)
from fedjury.protocol.transport.notices import DROPPED, Drops, Notices
from fedjury.protocol.transport.open_files import make_room

CONNECTING = 32
"""Connections opened at a time. Three processes may do so at once before a broker's listen queue
(Mosquitto: 100) overflows, and each that does not fit then waits for seconds."""
TICK = 5.0
WELCOME = 10.0
"""Seconds after which a broker that has not answered is asked anew."""
SETTLED = 10.0
"""Seconds after which a connection counts as good: who is cut off sooner waits longer each time."""
HEAD = 100
"""Bytes of a packet besides topic and payload, at the most."""
CLOSING = 0.5
"""Seconds that the broker has to close its ends."""


class Network:
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
        self.outside: dict[str, str] = {}
        """Who is not let in, or cannot get there, and why."""
        self.limits = reasons.BrokerLimits()
        """What the broker takes, as far as it is known before a party is connected."""
        self.notices = Notices()
        self.drops = Drops()
        self.doors: dict[str, Door] = {}
        self._address, self._run, self._sole = address, run, sole
        self._deliver = heard
        self._dialing = Dialing()
        self._protocol = 0
        self._next_look = 0.0
        self._every = min(TICK, address.keepalive / 4)
        self._closing = False
        self._final = ""
        """Why the only one of its name can go on no longer."""

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

    # What the hub asks for.

    def add(
        self,
        name: str,
        filters: list[str],
        *,
        presence: bool,
        serves: AggregatorPresence | None = None,
    ) -> None:
        """Let a party connect that hears these topics; one without its secret stays away."""
        login = self._login(name)
        client = Client(
            f"{self._run}.{name}",
            login or Login(),
            self._protocol,
            lambda topic, payload: self._heard(name, topic, payload),
        )
        door = Door(name, client, filters, _presence_of(name, presence, serves), self.limits)
        if door.presence is not None:
            will = door.presence(False)
            topic, payload = topics.topic_of(self._run, will), codec.encode(will)
            client.will_set(topic, payload, qos=1, retain=True)
        client.on_connect = lambda *args: self._connected(door, args[3], args[4])
        client.on_disconnect = lambda *args: self._disconnected(door, args[2], args[3])
        client.on_publish = lambda *args: self._acknowledged(door, args[3])
        client.on_socket_close = lambda *args: self._forget(door, args[2])
        self.doors[name] = door
        door.away = login is None
        if not door.away:
            self._dialing.add(name, time.monotonic())

    def _login(self, name: str) -> Login | None:
        """Find how a party logs in; who is one of many need not be able to."""
        try:
            return login_of(self._address, name)
        except LinkError as why:
            if self._sole:
                raise
            self.notices.add(f"{name} stays away: {why}", "no secret")
            self.outside[name] = str(why)
            return None

    def subscribe(self, name: str, topic: str, *, once: bool = True) -> None:
        """Let a party hear a topic; ``once``: until the first message has come."""
        door = self.doors[name]
        door.fetch(topic, once=once)
        self._flush(door)

    def watch_drops(self, name: str) -> None:
        """Let a party hear how many messages the broker throws away."""
        self.subscribe(name, DROPPED, once=False)

    def publish(self, name: str, message: Message, payload: bytes) -> None:
        """Send a message of a party, or remove what is retained where it would stand."""
        door = self.doors[name]
        if door.away:
            return  # it would wait for ever to be sent
        self._say(door, message, payload)
        self._flush(door)

    def empty(self, name: str, retained: Iterable[str]) -> None:
        """Remove what is retained on these topics."""
        door = self.doors[name]
        door.retained.clear()
        taken = (door.client.publish(topic, b"", qos=1, retain=True).rc for topic in retained)
        door.unacknowledged += sum(result != FULL for result in taken)
        self._flush(door)

    def say_goodbye(self, *, forget: bool) -> None:
        """Tell the others that our parties leave; ``forget``: and leave nothing retained."""
        self._closing = True
        for door in self.doors.values():
            if door.presence is not None and door.connected:
                said = door.presence(False)
                self._say(door, said, codec.encode(said))
                if forget:
                    self._say(door, said, b"")
                self._flush(door)

    def unfinished(self) -> bool:
        """Say whether something that we sent has yet to be acknowledged."""
        # Who has yet to connect for the first time may; who was cut off need not come back.
        doors = self.doors.values()
        return any(d.unacknowledged > 0 and (d.connected or not d.before) for d in doors)

    def hang_up(self, until: float) -> None:
        """Close all connections, the broker first, if it does so in time."""
        hang_up(self.doors.values(), self._selector, min(until, time.monotonic() + CLOSING))

    # The loop.

    def turn(self, timeout: float, *, reading: bool) -> None:
        """Wait for something to do, and do it; what has come is left where it is unless we read.

        Raises
        ------
        LinkError
            If a party that is the only one of its name can go on no longer: another has taken its
            place, or the broker will never take what it says.
        """
        for key, ready in self._selector.select(self._pause(timeout)):
            if key.data is None:
                self._wake_out.recv(4096)
                continue
            door: Door = key.data
            if ready & selectors.EVENT_READ and reading:
                door.client.read()
            door.leave_fetched()
            self._flush(door)
        now = time.monotonic()
        if not reading:
            time.sleep(0.005)
        if self._dialing:
            self._connect_due(now)
        if now > self._next_look:
            self._next_look = now + self._every
            self._look_after(now, reading=reading)
        if self._final:
            raise LinkError(self._final)

    def _look_after(self, now: float, *, reading: bool) -> None:
        """Ping where it is time to, and let go of who has not answered for too long."""
        for door in list(self.doors.values()):
            if not reading:  # the broker may have answered long ago
                door.client.trust()
            door.client.loop_misc()
            sock: Any = door.client.socket()
            waits = reading and sock is not None and not door.connected
            if waits and now - door.since > WELCOME:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)  # the selector tells, and it tries again

    def _pause(self, timeout: float) -> float:
        if self._dialing:
            timeout = min(timeout, 0.05, self._dialing.wait(time.monotonic()))
        return min(timeout, self._every)

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
            self._selector.modify(sock, events(wanted), door)

    def _connect_due(self, now: float) -> None:
        connecting = len(self._selector.get_map()) - 1 - self.connections
        while connecting < CONNECTING and (name := self._dialing.next(now)) is not None:
            door = self.doors[name]
            door.due, door.since = False, now
            try:
                door.client.connect(self._address.host, self._address.port, self._address.keepalive)
            except OSError as why:
                if own := reasons.ours(why):  # the broker may well be there
                    self.notices.add(f"{name} cannot connect: {own}", own)
                    self._turn_away(door, own)
                    break
                if said := reasons.of_tls(why, self._address.host):
                    self.notices.add(f"{name} cannot connect to the broker: {said}", said)
                door.failures = 0
                door.cut_off.clear()  # a broker that went away cuts off everybody
                if not door.due:
                    door.due = True
                    self._dialing.unreachable(name, time.monotonic())
                break
            self._dialing.reached()
            sock: Any = door.client.socket()
            if sock is None:  # it was cut off at once
                self._turn_away(door, reasons.SILENT)
                continue
            # Fetching and voting are small packets in turn: each would wait for the last (40 ms).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            door.writing = door.client.want_write()
            self._selector.register(sock, events(door.writing), door)
            connecting += 1

    def _later(self, door: Door) -> None:
        """Try again after a pause."""
        if door.due:
            return  # paho tells twice of a connection that breaks while it reads and answers
        door.due = True
        self._dialing.add(door.name, time.monotonic(), door.failures)
        door.failures += 1

    def _turn_away(self, door: Door, why: str) -> None:
        """Note why somebody is not let in, and let it try again after a pause."""
        self.outside[door.name] = why
        self._later(door)

    # What paho tells.

    def _connected(self, door: Door, answer: Any, more: Any) -> None:
        if answer.is_failure:
            said = reasons.refused(reason_of(answer), door.client.login)
            self.notices.add(f"the broker does not let {door.name} in: {said}", str(answer))
            self.outside[door.name] = said
            return  # the broker closes the connection, and we try again later
        self.outside.pop(door.name, None)
        door.limits = limits_of(more)
        again, door.before = door.before, True
        door.connected, door.since = True, time.monotonic()
        self.connections += 1
        if door.filters:
            door.client.subscribe([(topic, 1) for topic in door.filters])
        if again:
            for message, payload in list(door.retained.values()):
                self._say(door, message, payload)
        if door.presence is not None:
            there = door.presence(not self._closing)
            self._say(door, there, codec.encode(there))

    def _disconnected(self, door: Door, flags: Any, answer: Any) -> None:
        told = (
            reason_of(answer) if flags.is_disconnect_packet_from_server else reasons.Reason(0, "")
        )
        settled = time.monotonic() - door.since > SETTLED
        if told.code == reasons.TAKEN_OVER:
            text = f"another client connected to the broker as {door.name} of run {self._run!r}"
            self.notices.add(text, reasons.RIVAL)
            self._end_with(f"{text}, and has taken our place")
        elif door.connected:
            door.failures = 0 if settled else door.failures
            self._mind_cut(door, told)
        elif said := door.client.complaint:
            self.notices.add(f"the broker does not let {door.name} in: {said}", said)
            self.outside[door.name] = said
        else:
            self.outside.setdefault(door.name, reasons.SILENT)
        self.connections -= door.connected
        door.connected = False
        if not self._closing:
            self._later(door)

    def _mind_cut(self, door: Door, told: reasons.Reason) -> None:
        """See why somebody was cut off: for what it said, or by another who uses its name."""
        if told.code == reasons.SHUTTING_DOWN:
            return
        times = door.cut(time.monotonic())
        cut = reasons.of_cut(door.name, self._run, told, door.limits, times)
        if cut.notice:
            self.notices.add(cut.notice, cut.kind)
        if cut.final:
            self._end_with(cut.final)

    def _end_with(self, why: str) -> None:
        """End the network, if its party is the only one of its name: the others try again."""
        if self._sole:
            self._final = why

    def _heard(self, name: str, topic: str, payload: bytes) -> None:
        if topic == DROPPED:
            self.drops.hear(payload)
            return
        self._deliver(name, topic, payload)
        self.doors[name].has_come(topic)

    def _acknowledged(self, door: Door, answer: Any) -> None:
        door.unacknowledged -= 1
        if (reason := reason_of(answer)).refuses:
            said = reasons.no_receipt(reason)
            text = f"the broker refused a message of {door.name}: {said}"
            self.notices.add(text, f"no receipt: {reason.words}")
            if reason.code in reasons.FINAL:
                self._end_with(text)

    def _forget(self, door: Door, sock: Any) -> None:
        door.writing = False
        with contextlib.suppress(KeyError, ValueError):  # it may never have been watched
            self._selector.unregister(sock)

    # What is said.

    def _say(self, door: Door, message: Message, payload: bytes) -> None:
        channel = topics.CHANNELS[type(message)]
        says_more = speaks_five(self._protocol) and payload
        said = properties(channel.content_type, channel.expiry) if says_more else None
        topic = topics.topic_of(self._run, message)
        size = len(payload) + len(topic) + HEAD
        if 0 < door.limits.packet < size:  # asked for each message: no sentence is made for nothing
            text = reasons.too_small(str(self._address), door.limits, size)
            self.notices.add(text, "too large")
            self._end_with(text)
            return
        if channel.retain and not isinstance(message, Presence | AggregatorPresence):
            door.retained.pop(topic, None)
            if payload:
                door.retained[topic] = message, payload
        if door.client.publish(topic, payload, channel.qos, channel.retain, said).rc == FULL:
            self.notices.add(f"too much waits to be sent by {door.name}: a message is lost", "full")
        else:
            door.unacknowledged += 1


def _presence_of(
    name: str, presence: bool, serves: AggregatorPresence | None
) -> Callable[[bool], Message] | None:
    """Return what a party says of itself when it comes and goes; None if it says nothing."""
    if serves is not None:
        return lambda online: replace(serves, online=online)
    if presence:
        return lambda online: Presence(name, online, round(time.time(), 3))
    return None
