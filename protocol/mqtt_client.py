"""One MQTT connection: paho-mqtt, with the two packets that we get by the thousand read quickly.

paho reads a PUBLISH by copying its payload once for every field in front of it, and makes an
object of thirty entries for the properties of every packet. With 52 KB that is most of what a
message costs: 1,000 agents and one round, 0.35 s of processor time with MQTT 5 and 0.25 s with
3.1.1, against 0.15 s with what is here. Everything else is left to paho; so is all of it
should paho rename the methods.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from protocol.credentials import BrokerAddress, Login, login_of
from protocol.link import LinkError
from protocol.messages import Message

PATIENCE = 5.0
"""Seconds that a broker has to answer."""
OPEN_FILES = 65_536
"""A party is an open file; more than this no process of ours needs."""
IN_FLIGHT = 100
"""Messages of one party that may wait for their acknowledgement."""
READ = 262_144
"""Bytes taken from a socket at once."""
UNSENT = 10_000
"""Messages of one party that wait to be sent while it is not connected; more are not taken. It says
a handful in a round, and hears of no other round before it is back."""
BYE = b"\xe0\x00"
"""DISCONNECT. paho would close the socket with it: see ``Network.hang_up``."""
FULL = mqtt.MQTT_ERR_QUEUE_SIZE
TAKEN_OVER = "Session taken over"
"""What MQTT 5 calls it when another connects under our name; Mosquitto says so from 2.1 on."""


class PacketProperties(Properties):
    """What MQTT 5 says beside a payload, packed once for all messages of a kind."""

    def __init__(self, content_type: str, expiry: int | None) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        self.ContentType = content_type
        if expiry is not None:
            self.MessageExpiryInterval = expiry
        # paho's own attributes are fenced by __setattr__.
        object.__setattr__(self, "packed", super().pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """Return the bytes."""
        packed: bytes = object.__getattribute__(self, "packed")
        return packed


@cache
def properties(content_type: str, expiry: int | None) -> PacketProperties:
    """Make the properties of a kind of messages, once."""
    return PacketProperties(content_type, expiry)


_SUCCESS = (
    ReasonCode(PacketTypes.PUBACK),
    Properties(PacketTypes.PUBACK),  # type: ignore[no-untyped-call]
)


class Client(mqtt.Client):
    """A connection that hands every message to ``heard(topic, payload)``.

    The payload is the receiver's: nobody else writes to it.
    """

    def __init__(self, name: str, login: Login, protocol: int, heard: Callable[..., None]) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=MQTTProtocolVersion(protocol),
            reconnect_on_failure=False,
        )
        self.connect_timeout = PATIENCE
        self.max_inflight_messages_set(IN_FLIGHT)
        self.max_queued_messages_set(UNSENT)
        if login.username is not None:
            self.username_pw_set(login.username, login.password)
        if login.tls is not None:
            self.tls_set_context(login.tls)
        self._heard = heard
        self._held: bytes | memoryview = b""
        """What was taken from the socket and not yet read."""
        self._taken: list[bytes] = []
        """Acknowledgements of what was read."""
        self.complaint = ""
        """What TLS last found wrong."""
        self.on_message = lambda *args: heard(args[2].topic, bytearray(args[2].payload))

    def read(self) -> None:
        """Read what has come, and acknowledge it all at once."""
        self.loop_read()
        while (self._held or self._decrypted() or self._whole()) and self.socket() is not None:
            self.loop_read()
        if self._taken:
            acknowledgements, self._taken = b"".join(self._taken), []
            self._packet_queue(mqtt.PUBACK, acknowledgements, 0, 1)

    def _whole(self) -> bool:
        """Say whether a packet is here but not handled: paho stops after a hundred pieces."""
        return bool(self._in_packet["have_remaining"]) and not self._in_packet["to_process"]

    def _decrypted(self) -> bool:
        """Say whether TLS has more for us already, of which no selector tells."""
        sock = self.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        """Encrypt a connection; paho would forget to close one that cannot be."""
        context: Any = self._ssl_context
        sock: ssl.SSLSocket = context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        try:
            sock.settimeout(self.connect_timeout)
            sock.do_handshake()
        except BaseException:
            sock.close()
            raise
        return sock

    def reconnect(self) -> MQTTErrorCode:
        """Connect anew; what is left of the old connection is of no use."""
        self._held, self._taken, self.complaint = b"", [], ""
        return super().reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        """Take a lot from the socket at once: paho asks for a packet's first bytes one by one.

        But no more than it asks for of a packet that has begun, so that ``read`` comes to an end.
        """
        if not self._held:
            try:
                self._held = memoryview(super()._sock_recv(READ if bufsize == 1 else bufsize))
            except ssl.SSLError as why:  # as when the broker does not take our certificate
                self.complaint = complaint(why)
                raise
        taken, self._held = self._held[:bufsize], self._held[bufsize:]
        return taken  # type: ignore[return-value]  # a view does all that paho does with bytes

    def _handle_publish(self) -> MQTTErrorCode:
        """Read a PUBLISH: its payload is what is left of the packet, which is not copied.

        Properties are skipped unread: nothing that another client put there can trouble us.
        """
        packet: bytearray = self._in_packet["packet"]
        qos = self._in_packet["command"] >> 1 & 3
        try:
            start = 2 + (packet[0] << 8 | packet[1])
            topic = packet[2:start].decode()
            mid = packet[start] << 8 | packet[start + 1] if qos else 0
            start += 2 if qos else 0
            if self._protocol == mqtt.MQTTv5:
                start = _after_properties(packet, start)
        except (IndexError, UnicodeDecodeError):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if start > len(packet):
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if qos > 1:  # of QoS 2 there is none in our protocol
            return super()._handle_publish()
        del packet[:start]
        with self._in_callback_mutex:
            self._heard(topic, packet)
        if qos:
            self._taken.append(bytes((mqtt.PUBACK, 2, mid >> 8, mid & 255)))
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_pubackcomp(self, cmd: Any) -> MQTTErrorCode:
        """Read a PUBACK that only says yes, without making an object for its properties."""
        packet: bytearray = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) != 2:
            return super()._handle_pubackcomp(cmd)
        mid = packet[0] << 8 | packet[1]
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, *_SUCCESS)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def trust(self) -> None:
        """Take the broker for alive, for we do not look at what it says."""
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()
        self._ping_t = 0.0

    def hang_up(self) -> Any:
        """End it in the broker's eyes too: a connection that vanishes sets off the last will.

        Returns the socket, if there is one, for whoever waits until the broker has closed its end.
        """
        self.on_disconnect = self.on_socket_close = None
        sock: Any = self.socket()
        if sock is not None and not self.want_write():
            with contextlib.suppress(OSError):
                sock.send(BYE)
                sock.shutdown(socket.SHUT_WR)
        return sock

    def close(self) -> None:
        """Close the socket, if there is one."""
        self._sock_close()


class Door:
    """One party's connection."""

    def __init__(self, name: str, client: Client, filters: list[str], presence: bool) -> None:
        self.name = name
        self.client = client
        self.filters = filters
        self.presence = presence
        self.fetching: set[str] = set()
        """Topics it hears until the first message has come."""
        self.fetched: list[str] = []
        """Topics of which it has: we unsubscribe as soon as paho lets us."""
        self.retained: dict[str, tuple[Message, bytes]] = {}
        """What it retained at the broker, by topic: a broker that was restarted has forgotten."""
        self.unacknowledged = 0
        self.failures = 0
        """How often in a row it was turned away, or cut off before it could settle."""
        self.cut_off: list[float] = []
        """When it lately was, though the broker was there (seconds, monotonic)."""
        self.connected = False
        self.before = False
        """Whether it was connected once."""
        self.since = 0.0
        """When it last began to connect, or was connected (seconds, monotonic)."""
        self.away = False
        """Whether it never connects."""
        self.due = True
        """Whether it waits for its turn to connect."""
        self.writing = False
        """Whether the selector tells us when the socket can take more."""

    def fetch(self, topic: str, *, once: bool = True) -> None:
        """Subscribe to a topic; ``once``: until the first message has come."""
        if topic not in self.filters:
            self.filters.append(topic)  # so that a new connection asks for it again
        if once:
            self.fetching.add(topic)
        self.client.subscribe(topic, qos=1)

    def has_come(self, topic: str) -> None:
        """Note that a message has come on a topic."""
        if topic in self.fetching:
            self.fetching.discard(topic)
            self.fetched.append(topic)

    def leave_fetched(self) -> None:
        """Unsubscribe from what was fetched: nobody wants what is retained there later."""
        if self.fetched:
            self.client.unsubscribe(self.fetched)
            self.filters[:] = [topic for topic in self.filters if topic not in self.fetched]
            self.fetched.clear()


def _after_properties(packet: bytearray, start: int) -> int:
    """Return where the properties that begin at ``start`` with their length (1-4 bytes) end."""
    size = 0
    for place in range(4):
        byte = packet[start + place]
        size |= (byte & 127) << 7 * place
        if byte < 128:
            return start + place + 1 + size
    raise IndexError("a length of more than four bytes")


def allow_many_files() -> None:
    """Let this process hold as many connections as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def probe(address: BrokerAddress, party: str = "") -> int:
    """Return the newest protocol that the broker speaks to a party, as paho numbers it.

    Raises
    ------
    LinkError
        If nobody answers there, or we are not let in; one sentence.
    """
    login = login_of(address, party)
    try:
        socket.create_connection((address.host, address.port), timeout=PATIENCE).close()
    except (OSError, UnicodeError) as why:  # the latter for what cannot be a host's name
        raise LinkError(
            f"no MQTT broker answers at {address} ({getattr(why, 'strerror', '') or why}); start "
            "one with 'python -m broker.local', or say where one is with --broker host:port"
        ) from why
    for protocol in (mqtt.MQTTv5, mqtt.MQTTv311):
        answer = _handshake(address, login, protocol)
        if answer == "Success":
            return int(protocol)
        if answer and protocol == mqtt.MQTTv311:
            raise LinkError(f"the broker at {address} does not let us in: {answer}{_hint(login)}")
    if login.tls is None:
        raise LinkError(
            f"what listens at {address} does not speak MQTT (without TLS; with it, which --secrets "
            "or --ca bring, brokers usually listen on port 8883)"
        )
    raise LinkError(
        f"what listens at {address} does not speak MQTT with TLS (without it brokers usually "
        "listen on port 1883), or does not know our certificate"
    )


def _hint(login: Login) -> str:
    """Say what who has no log-in might do."""
    return "" if login.username else "; give --secrets, the folder made by python -m broker.enrol"


def complaint(why: OSError) -> str:
    """Say in words what TLS found wrong; nothing if it is not that."""
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {why.verify_message}"
    return (why.reason or "").replace("_", " ").lower() if isinstance(why, ssl.SSLError) else ""


def speaks_five(protocol: int) -> bool:
    """Say whether this is MQTT 5."""
    return protocol == mqtt.MQTTv5


def _handshake(address: BrokerAddress, login: Login, protocol: int) -> str:
    """Connect once and return what the broker said, or nothing if it said nothing.

    Raises
    ------
    LinkError
        If the broker's certificate is not to be trusted.
    """
    said: list[str] = []
    client = Client(f"probe-{uuid.uuid4().hex[:16]}", login, protocol, lambda *_: None)
    client.on_connect = lambda *args: said.append(str(args[3]))
    deadline = time.monotonic() + PATIENCE
    try:
        client.connect(address.host, address.port)
        while (
            not said and time.monotonic() < deadline and client.loop(0.1) == mqtt.MQTT_ERR_SUCCESS
        ):
            pass
        client.disconnect()
    except ssl.SSLCertVerificationError as why:
        raise LinkError(
            f"the certificate of the broker at {address} is not to be trusted: {why.verify_message}"
        ) from why
    except (OSError, ValueError):
        return ""
    return said[0] if said else ""
