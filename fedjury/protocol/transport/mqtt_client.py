"""One MQTT connection: paho-mqtt, with the two packets that we get by the thousand read quickly.

paho reads a PUBLISH by copying its payload once for every field in front of it, and makes an
object of thirty entries for the properties of every packet. With 52 KB that is most of what a
message costs: 1,000 agents and one round, 0.35 s of processor time with MQTT 5 and 0.25 s with
3.1.1, against 0.15 s with what is here. Everything else is left to paho; so is all of it
should paho rename the methods.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedjury.protocol.credentials import Login
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.reasons import BrokerLimits, Reason

PATIENCE = 5.0
"""Seconds that a broker has to answer."""
IN_FLIGHT = 100
"""Messages of one party that may wait for their acknowledgement."""
READ = 262_144
"""Bytes taken from a socket at once."""
UNSENT = 10_000
"""Messages of one party that wait to be sent while it is not connected; more are not taken. It says
a handful in a round, and hears of no other round before it is back."""
BYE = b"\xe0\x00"
"""DISCONNECT. paho would close the socket with it: see ``Network.hang_up``."""
FULL, LOST, SUCCESS = mqtt.MQTT_ERR_QUEUE_SIZE, mqtt.MQTT_ERR_CONN_LOST, mqtt.MQTT_ERR_SUCCESS
MQTT_5, MQTT_3 = mqtt.MQTTv5, mqtt.MQTTv311


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


_SUCCESS = ReasonCode(PacketTypes.PUBACK)
_NOTHING_MORE = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call]


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
        self.login = login.username
        """By what name it logs in."""
        self.first = b""
        """The first byte of the other end."""
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

    def _create_socket_connection(self) -> socket.socket:
        """Connect from any port that is free towards this broker.

        As paho does it, a port is taken for all of a machine's connections wherever they go: with
        several brokers there would be no more than the 28,000 of one.
        """
        return socket.create_connection((self._host, self._port), timeout=self.connect_timeout)

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
        """Connect again; what is left of the old connection is of no use."""
        self._held, self._taken, self.complaint, self.first = b"", [], "", b""
        return super().reconnect()

    def _sock_recv(self, bufsize: int) -> bytes:
        """Take a lot from the socket at once: paho asks for a packet's first bytes one by one.

        But no more than it asks for of a packet that has begun, so that ``read`` comes to an end.
        """
        if not self._held:
            try:
                self._held = memoryview(super()._sock_recv(READ if bufsize == 1 else bufsize))
            except ssl.SSLError as why:  # as when the broker does not take our certificate
                self.complaint = reasons.of_tls(why, self._host)
                raise
            self.first = self.first or bytes(self._held[:1])
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
        """Read a PUBACK without making an object for its properties.

        Its reason may be any: Mosquitto gives one that is not for a PUBACK ("packet too large",
        where a message is over its message_size_limit), at which paho would hang up.
        """
        packet: bytearray = self._in_packet["packet"]
        if cmd != "PUBACK" or len(packet) < 2:
            return super()._handle_pubackcomp(cmd)
        mid, code = packet[0] << 8 | packet[1], packet[2] if len(packet) > 2 else 0
        reason: Any = numbered(code) if code else _SUCCESS
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, reason, _NOTHING_MORE)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _packet_queue(self, command: int, packet: Any, *args: Any, **more: Any) -> MQTTErrorCode:
        """Have a packet written: paho copies what is left of it each time, of a view nothing."""
        view: Any = memoryview(packet)
        return super()._packet_queue(command, view, *args, **more)

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


def discarded(sock: Any) -> bool:
    """Throw away what has come on a socket; False once there is no more."""
    try:
        return bool(sock.recv(READ))
    except BlockingIOError:
        return True
    except OSError:
        return False


def _after_properties(packet: bytearray, start: int) -> int:
    """Return where the properties that begin at ``start`` with their length (1-4 bytes) end."""
    size = 0
    for place in range(4):
        byte = packet[start + place]
        size |= (byte & 127) << 7 * place
        if byte < 128:
            return start + place + 1 + size
    raise IndexError("a length of more than four bytes")


def speaks_five(protocol: int) -> bool:
    """Say whether this is MQTT 5."""
    return protocol == mqtt.MQTTv5


def reason_of(code: ReasonCode | Reason) -> Reason:
    """Return a reason of paho's as one of ours."""
    return code if isinstance(code, Reason) else Reason(int(code.value), str(code))


def limits_of(properties: Any) -> BrokerLimits:
    """Return what the properties of a CONNACK say of what the broker takes."""
    return BrokerLimits(
        getattr(properties, "MaximumPacketSize", 0),
        retain=bool(getattr(properties, "RetainAvailable", 1)),
        qos=getattr(properties, "MaximumQoS", 2),
    )


def numbered(code: int) -> Reason:
    """Return a reason by its number, wherever MQTT lets it stand."""
    names = ReasonCode(PacketTypes.DISCONNECT).names.get(code, {})
    return Reason(code, next(iter(names), f"reason {code:#x}"))
