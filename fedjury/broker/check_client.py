"""One MQTT connection of which every packet is seen, and that can be silent, slow or cut off.

No client library leaves a message unacknowledged, or a socket unread, and tells how many came.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from fedjury.protocol.credentials import BrokerAddress, Login
from fedjury.protocol.transport.packets import length, packet, text

PATIENCE = 3.0
"""Seconds that a broker has to answer."""
WINDOW = 20
"""Messages that may wait for their acknowledgement, if the broker does not take fewer."""
READ = 262_144
SESSION = 60
"""Seconds that a session is kept."""

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 9, 13, 14
REFUSED = 0x80


class Gone(Exception):  # noqa: N818 - the broker may well do that
    """The broker ended the connection, or does not answer."""


class Message(NamedTuple):
    """What was published."""

    topic: str
    payload: bytes
    retained: bool


class Will(NamedTuple):
    """What the broker is to retain if the connection is cut."""

    topic: str
    payload: bytes


class CheckClient:
    """A connection under a name; closed without a goodbye unless told otherwise."""

    def __init__(
        self,
        address: BrokerAddress,
        login: Login,
        name: str,
        *,
        five: bool,
        keepalive: int = 60,
        will: Will | None = None,
        session: bool = False,
    ) -> None:
        """Connect. ``session``: what comes while it is away waits for it, for a minute.

        Raises
        ------
        Gone
            If it is not let in.
        """
        self.five = five
        self.name = name
        self.inbox: deque[Message] = deque()
        self.acknowledges = True
        """Whether it acknowledges what it gets."""
        self.waiting: set[int] = set()
        """Numbers of messages that the broker has not acknowledged."""
        self.window = WINDOW
        """How many there may be of them."""
        self.taken = 0
        """How many it has."""
        self.refusal = ""
        """What it has said against one of them."""
        self.patience = PATIENCE
        """Seconds that a message may take to be sent."""
        self._welcome = b""
        self._answers: dict[int, bytes] = {}
        self._held = bytearray()
        self._last = 0
        self._pongs = 0
        self._open(address, login)
        try:
            self._send(_connect(name, login, five, keepalive, will, session))
            if not self._until(lambda: bool(self._welcome), PATIENCE):
                raise Gone("the broker does not answer")
            if five:
                self.window = min(WINDOW, _receive_maximum(self._welcome))
            if code := self._welcome[1]:
                raise Gone(f"the broker does not let {name} in (reason {code:#x})")
        except Gone:
            self.cut()
            raise

    def _open(self, address: BrokerAddress, login: Login) -> None:
        try:
            plain = socket.create_connection((address.host, address.port), timeout=PATIENCE)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = plain
            if login.tls is not None:
                self._socket = login.tls.wrap_socket(plain, server_hostname=address.host)
        except OSError as why:
            raise Gone(f"no connection: {why}") from why

    # ------------------------------------------------------------ what it says

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> int:
        """Send a message and do not wait; returns its number."""
        self._last = self._last % 65_535 + 1
        number = self._last.to_bytes(2, "big") if qos else b""
        head = text(topic) + number + (b"\x00" if self.five else b"")
        if qos:
            self.waiting.add(self._last)
        first = PUBLISH << 4 | qos << 1 | retain
        self._send(bytes([first]) + length(len(head) + len(payload)) + head + payload)
        return self._last

    def publish_all(
        self, what: Iterable[tuple[str, bytes]], seconds: float, *, retain: bool = False
    ) -> int:
        """Send messages, a few at a time, for so long; returns how many it could send."""
        deadline, sent = time.monotonic() + seconds, 0
        for topic, payload in what:
            if time.monotonic() >= deadline:
                break
            while len(self.waiting) >= self.window and time.monotonic() < deadline:
                self._read(deadline)
            if len(self.waiting) >= self.window:
                break
            self.publish(topic, payload, retain=retain)
            sent += 1
        self.settle(deadline - time.monotonic())
        return sent

    def settle(self, seconds: float = PATIENCE) -> bool:
        """Wait until everything is acknowledged; returns whether it is."""
        return self._until(lambda: not self.waiting, seconds)

    def subscribe(self, topic: str) -> int | None:
        """Ask for messages with QoS 1; returns what was granted, None if it is refused.

        Raises
        ------
        Gone
            If there is no answer.
        """
        self._last = self._last % 65_535 + 1
        number = self._last
        body = number.to_bytes(2, "big") + (b"\x00" if self.five else b"") + text(topic) + b"\x01"
        self._send(packet(0x82, body))
        if not self._until(lambda: number in self._answers, PATIENCE):
            raise Gone(f"the broker does not answer a subscription to {topic}")
        granted = self._answers.pop(number)[-1]
        return None if granted >= REFUSED else granted

    def sync(self, seconds: float = PATIENCE) -> bool:
        """Wait for the answer to a ping: what was sent before it has then come; returns if so."""
        wanted = self._pongs + 1
        self._send(b"\xc0\x00")
        return self._until(lambda: self._pongs >= wanted, seconds)

    def leave(self) -> None:
        """Say goodbye: no will is sent."""
        with contextlib.suppress(Gone):
            self._send(b"\xe0\x00")
        self.cut()

    def cut(self) -> None:
        """End the connection without a word."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    # ------------------------------------------------------------ what it hears

    def receive(self, count: int, seconds: float, quiet: float = 60.0) -> list[Message]:
        """Return the next messages: so many, or those that come until the time is up.

        ``quiet``: seconds without any after which no more are awaited.
        """
        deadline, last = time.monotonic() + seconds, time.monotonic()
        before = len(self.inbox)
        while len(self.inbox) < count and time.monotonic() < min(deadline, last + quiet):
            self._read(min(deadline, last + quiet))
            if len(self.inbox) > before:
                before, last = len(self.inbox), time.monotonic()
        return [self.inbox.popleft() for _ in range(min(count, len(self.inbox)))]

    def closed(self, seconds: float) -> bool:
        """Wait until the broker ends the connection; returns whether it does."""
        try:
            self._until(lambda: False, seconds)
        except Gone:
            return True
        return False

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            self._read(deadline)
        return True

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self.patience)
            self._socket.sendall(data)
        except OSError as why:
            self._read(time.monotonic())  # it may have said why
            raise Gone(f"the broker ended the connection of {self.name}") from why

    def _read(self, deadline: float) -> None:
        """Read what comes until then, if anything does."""
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(READ)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if not data:
            raise Gone(f"the broker ended the connection of {self.name}")
        self._held += data
        start = 0
        while found := _whole(self._held, start):
            first, body, start = found
            self._handle(first, body)
        del self._held[:start]

    def _handle(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == PUBLISH:
            self._hear(first, body)
        elif kind == PUBACK:
            number, code = int.from_bytes(body[:2], "big"), body[2] if len(body) > 2 else 0
            self.waiting.discard(number)
            if code >= REFUSED:
                self.refusal = f"refused with reason {code:#x}"
            else:
                self.taken += 1
        elif kind == SUBACK:
            self._answers[int.from_bytes(body[:2], "big")] = body
        elif kind == CONNACK:
            self._welcome = body
        elif kind == PINGRESP:
            self._pongs += 1
        elif kind == DISCONNECT:
            reason = f" (reason {body[0]:#x})" if body else ""
            raise Gone(f"the broker ended the connection of {self.name}{reason}")

    def _hear(self, first: int, body: bytes) -> None:
        qos, start = first >> 1 & 3, 2 + int.from_bytes(body[:2], "big")
        topic = body[2:start].decode(errors="replace")
        number = body[start : start + 2] if qos else b""
        start += len(number)
        if self.five:
            size, start = _length(body, start) or (0, start)
            start += size
        self.inbox.append(Message(topic, body[start:], bool(first & 1)))
        if qos and self.acknowledges:
            self._send(packet(0x40, number))


def _connect(
    name: str, login: Login, five: bool, keepalive: int, will: Will | None, session: bool
) -> bytes:
    """Write a CONNECT."""
    flags = 0 if session else 2
    flags |= 0x2C if will else 0  # QoS 1, retained
    flags |= 0x80 if login.username is not None else 0
    flags |= 0x40 if login.password is not None else 0
    body = text("MQTT") + bytes([5 if five else 4, flags]) + keepalive.to_bytes(2, "big")
    if five:
        kept = b"\x11" + SESSION.to_bytes(4, "big") if session else b""
        body += length(len(kept)) + kept
    body += text(name)
    if will:
        body += (b"\x00" if five else b"") + text(will.topic)
        body += len(will.payload).to_bytes(2, "big") + will.payload
    for secret in (login.username, login.password):
        body += b"" if secret is None else text(secret)
    return packet(0x10, body)


SIZES = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
"""Properties of a CONNACK that have a fixed size -> that; others are strings, 0x26 two of them."""
RECEIVE_MAXIMUM, USER_PROPERTY = 0x21, 0x26


def _receive_maximum(welcome: bytes) -> int:
    """Return how many unacknowledged messages a broker takes, as its CONNACK of MQTT 5 says."""
    size, place = _length(welcome, 2) or (0, 2)
    end = min(place + size, len(welcome))
    while place < end:
        kind, place = welcome[place], place + 1
        if kind == RECEIVE_MAXIMUM:
            return max(1, int.from_bytes(welcome[place : place + 2], "big"))
        for _ in range(1 + (kind == USER_PROPERTY)):
            text_size = 2 + int.from_bytes(welcome[place : place + 2], "big")
            place += SIZES.get(kind, text_size)
    return 65_535


def _length(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Return the length that is there, and where what it is of begins; None: not all is here."""
    size = 0
    for place in range(4):
        if start + place >= len(data):
            return None
        byte = data[start + place]
        size |= (byte & 127) << 7 * place
        if byte < REFUSED:
            return size, start + place + 1
    return None


def _whole(data: bytearray, start: int) -> tuple[int, bytes, int] | None:
    """Return the packet that begins there, and where the next one does; None: not all is here."""
    found = _length(data, start + 1)
    if found is None or found[1] + found[0] > len(data):
        return None
    size, body = found
    return data[start], bytes(data[body : body + size]), body + size
