"""Asking a broker once how it speaks to us: which MQTT, whether it lets us in, and if not, why."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
import uuid
from typing import NamedTuple

from fedjury.protocol.credentials import BrokerAddress, Login, login_of, stranger
from fedjury.protocol.transport import reasons
from fedjury.protocol.transport.connection import BrokerAway, TransportError
from fedjury.protocol.transport.mqtt_client import (
    LOST,
    MQTT_3,
    MQTT_5,
    PATIENCE,
    SUCCESS,
    Client,
    limits_of,
    reason_of,
)
from fedjury.protocol.transport.reasons import BrokerLimits, Reason


class Welcome(NamedTuple):
    """How a broker speaks to us."""

    protocol: int
    """The newest that it speaks, as paho numbers it."""
    limits: BrokerLimits
    """What it takes, where it says so."""


def probe(address: BrokerAddress, principal: str = "") -> Welcome:
    """Find out how the broker speaks to a party.

    Raises
    ------
    BrokerAway
        If nobody answers there.
    TransportError
        If we are not let in, it does not do what we need, or it is no broker; one sentence.
    """
    welcome = greet(address, principal)
    if text := reasons.lacking(str(address), welcome.limits):
        raise TransportError(text)
    return welcome


def greet(address: BrokerAddress, principal: str = "") -> Welcome:
    """Find out how the broker speaks to a party, whatever it lacks.

    Raises
    ------
    BrokerAway
        If nobody answers there.
    TransportError
        If we are not let in, or it is no broker; one sentence.
    """
    login = login_of(address, principal)
    try:
        socket.create_connection((address.host, address.port), timeout=PATIENCE).close()
    except (OSError, UnicodeError) as why:
        # What cannot be a host's name never will be one, and our own lack of files is no absence.
        away = isinstance(why, OSError) and not reasons.ours(why)
        raise (BrokerAway if away else TransportError)(reasons.unreachable(address, why)) from why
    refusal: Reason | None = None
    answer = _Answer()
    for protocol in (MQTT_5, MQTT_3):
        answer = _handshake(address, login, protocol)
        if answer.reason is not None and not answer.reason.refuses:
            return Welcome(int(protocol), answer.limits)
        if answer.reason is not None and answer.reason.code in reasons.FINAL:
            raise TransportError(
                reasons.lacking(str(address), BrokerLimits(0, retain=False, qos=0))
            )
        # What MQTT 5 says is the more exact, unless it is that it is not spoken.
        spoken = refusal is not None and refusal.code != reasons.UNSUPPORTED_VERSION
        refusal = refusal if spoken else answer.reason or refusal
    if refusal is not None:
        message = reasons.refused(refusal, login.username)
        raise TransportError(f"the broker at {address} rejects the connection: {message}")
    if answer.complaint:
        raise TransportError(f"the broker at {address} rejects the connection: {answer.complaint}")
    encrypted, silent = login.tls is not None, answer.closed and not answer.first
    expects_tls = silent and not encrypted and _speaks_tls(address)
    raise TransportError(
        reasons.no_mqtt(str(address), tls=encrypted, silent=silent, expects_tls=expects_tls)
    )


def _speaks_tls(address: BrokerAddress) -> bool:
    """Return whether what listens there encrypts; who it is does not matter for that."""
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError):
        plain = socket.create_connection((address.host, address.port), timeout=PATIENCE)
        with plain, anybody.wrap_socket(plain):
            return True
    return False


def lets_anybody_in(address: BrokerAddress) -> bool:
    """Return whether a broker to which we have a login lets strangers in as well."""
    nobody = stranger(address)
    if nobody is None:
        return False
    try:
        reason = _handshake(address, nobody, MQTT_3).reason
    except TransportError:
        return False
    return reason is not None and not reason.refuses


class _Answer(NamedTuple):
    """What came of trying to connect."""

    reason: Reason | None = None
    """Of the CONNACK; None if none came."""
    limits: BrokerLimits = BrokerLimits()
    complaint: str = ""
    """What TLS found wrong."""
    first: bytes = b""
    """The first byte that came, if any did."""
    closed: bool = False
    """Whether the other end hung up."""


def _handshake(address: BrokerAddress, login: Login, protocol: int) -> _Answer:
    """Connect once and return what came of it.

    Raises
    ------
    TransportError
        If the broker's certificate is not to be trusted, or this machine has no connection for us.
    """
    message: list[tuple[Reason, BrokerLimits]] = []
    client = Client(f"probe-{uuid.uuid4().hex[:16]}", login, protocol, lambda *_: None)
    client.on_connect = lambda *args: message.append((reason_of(args[3]), limits_of(args[4])))
    deadline = time.monotonic() + PATIENCE
    result = SUCCESS
    try:
        client.connect(address.host, address.port)
        while not message and time.monotonic() < deadline and result == SUCCESS:
            result = client.loop(0.1)
        client.disconnect()
    except ssl.SSLCertVerificationError as why:
        raise TransportError(
            f"the certificate of the broker at {address} cannot be trusted: "
            f"{reasons.distrust(why, address.host)}"
        ) from why
    except (OSError, ValueError) as why:
        if reasons.ours(why):
            raise TransportError(reasons.unreachable(address, why)) from why
        complaint = reasons.of_tls(why, address.host)
        return _Answer(complaint=complaint if "alert" in complaint else "", closed=True)
    if message:
        return _Answer(*message[0])
    closed = result == LOST
    return _Answer(complaint=client.complaint, first=client.first, closed=closed)
