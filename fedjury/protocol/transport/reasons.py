"""Why a broker cannot be had, or does not do as we ask, in words: the one place that decides so.

Each sentence says what happened, why, and what to do about it. What is known comes from three
sides: what the system says of a socket, what TLS says of a certificate, and the reasons that MQTT
gives in CONNACK, PUBACK and DISCONNECT (MQTT 5, table 2-6). Where a broker gives none, as with
MQTT 3.1.1, the sentence says that, and guesses nothing.
"""

from __future__ import annotations

import errno
import ssl
import time
from typing import NamedTuple

from fedjury.processes import most_open_files
from fedjury.protocol.credentials import BrokerAddress

RIVAL = "another client with the same name"
CUT_OFF = "cut off"
"""Kinds of notices: of two who use the same name, and of cuts without a reason."""

AGAIN = 2
"""Times in a row that are no accident any more."""
LATELY = 120.0
"""Seconds within which that counts: two who throw each other out wait longer and longer for it."""
GIVEN_UP = 5
"""Times in a row after which the only one of a name gives way: the other may stay then."""

SILENT = (
    "it closes the connection without a reason, as a broker does that has its maximum number of "
    "clients (max_connections, or its open files); raise that at the broker, which is tried again"
)
"""What is known of a broker that hangs up before it has answered."""

_OURS = {
    errno.EMFILE: "this process cannot open more files ({files}): raise that with 'ulimit -n', "
    "or spread its agents over more processes",
    errno.ENFILE: "this machine cannot open more files (fs.file-max)",
    errno.ENOBUFS: "this machine is out of memory for connections",
    errno.ENOMEM: "this machine is out of memory for connections",
    errno.EADDRNOTAVAIL: "this machine has no free port to connect from "
    "(net.ipv4.ip_local_port_range), or no network",
    errno.EACCES: "this machine does not allow the connection: is there a firewall?",
    errno.EPERM: "this machine does not allow the connection: is there a firewall?",
}
"""Errors of the system that are no fault of the broker's, which may well be there."""

_TRUST = {
    7: "was not signed by the known authority (--ca, or ca.crt in --secrets): are these of "
    "another enrolment?",
    9: "is not valid yet; this machine's clock says {now}: set it right, or wait",
    10: "has expired; have a new one made ('fedjury enroll --renew' makes them), or set "
    "this machine's clock right, which says {now}",
    18: "is its own authority; give it as --ca FILE if it is the right one",
    19: "is of an unknown authority; give the authority's certificate as --ca FILE",
    20: "is of an unknown authority; give the authority's certificate as --ca FILE, or "
    "--ca system if it is a public one",
    21: "is of an unknown authority; give the authority's certificate as --ca FILE, or "
    "--ca system if it is a public one",
    23: "was revoked",
    62: "does not name {host}; connect by a name that it has, or have one made that names it "
    "('fedjury enroll --host {host}')",
    64: "does not name {host}; connect by a name that it has, or have one made that names it "
    "('fedjury enroll --host {host}')",
}
"""OpenSSL's numbers of what can be wrong with a certificate -> what that is, and what to do."""

TAKEN_OVER, SHUTTING_DOWN, KEEP_ALIVE = 0x8E, 0x8B, 0x8D
UNSUPPORTED_VERSION, TOO_LARGE, NO_RETAIN, NO_QOS = 0x84, 0x95, 0x9A, 0x9B
FINAL = {TOO_LARGE, NO_RETAIN, NO_QOS}
"""What will be refused again however often it is tried."""

_RETAIN = (
    "retains no messages, which agents that join later need; set "
    "'retain_available true' in its configuration"
)
_QOS = (
    "does not accept messages with QoS 1; set 'max_qos 2' in its configuration, or leave that out"
)
_SIZE = (
    "raise max_packet_size in its configuration (and message_size_limit, if that is there), or "
    "take a smaller model"
)
_ADVICE = {
    0x85: "it does not take RUN.NAME for a client's id; it must",
    0x86: "wrong name or password: --username, --password, --secrets",
    0x88: "try again later",
    0x89: "try again later",
    0x8A: "ask who runs it",
    TOO_LARGE: _SIZE,
    0x96: "raise its limit of messages per second and client",
    0x97: "it has its maximum number of clients or messages; raise that at the broker",
    0x98: "ask who runs it",
    0x99: "it does not accept such payloads",
    NO_RETAIN: f"it {_RETAIN}",
    NO_QOS: f"it {_QOS}",
    0x9F: "it accepts fewer new connections per second; raise that at the broker",
}
"""Numbers of MQTT's reasons -> what to do."""


class Reason(NamedTuple):
    """What a broker gives for a reason."""

    code: int
    words: str
    """What MQTT calls it."""

    @property
    def refuses(self) -> bool:
        """Whether it is none to be glad of."""
        return self.code >= 0x80


class BrokerLimits(NamedTuple):
    """What a broker says in its CONNACK of what it takes."""

    packet: int = 0
    """Bytes of a packet, at the most; 0: as many as MQTT allows."""
    retain: bool = True
    qos: int = 2


def ours(why: BaseException) -> str:
    """Say what is wrong on our own side of a socket; "" if the error is not of that kind."""
    text = _OURS.get(getattr(why, "errno", None) or 0, "")
    return text.format(files=f"{most_open_files():,.0f}")


def unreachable(where: BrokerAddress, why: BaseException) -> str:
    """Return why nobody could be reached at an address."""
    if own := ours(why):
        return f"no connection to the broker at {where} can be opened: {own}"
    start = f"start one with 'fedjury broker --port {where.port}'"
    return (
        f"no MQTT broker answers at {where} ({getattr(why, 'strerror', '') or why}); "
        f"{start if where.here else 'start it there'}, or say where one is with --broker HOST:PORT"
    )


def of_tls(why: BaseException, host: str) -> str:
    """Say what TLS found wrong, and what to do; "" if it is not that."""
    if isinstance(why, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {distrust(why, host)}"
    if not isinstance(why, ssl.SSLError):
        return ""
    words = (why.reason or "").replace("_", " ").lower()
    if "alert" not in words:
        return words
    return (
        f"it rejects this certificate ({words}): is the one in --secrets of its authority, "
        "and neither revoked nor expired? 'fedjury enroll --renew NAME' makes another"
    )


def distrust(why: ssl.SSLCertVerificationError, host: str) -> str:
    """Say what is wrong with a broker's certificate, and what to do."""
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    known = _TRUST.get(why.verify_code, "")
    do = f"; it {known.format(now=now, host=host)}" if known else ""
    return f"{why.verify_message.rstrip('.')}{do}"


def no_mqtt(where: str, *, tls: bool, silent: bool, expects_tls: bool) -> str:
    """Say what listens there instead of a broker that speaks as we do.

    ``tls``: we encrypt; ``silent``: it hung up without a word; ``expects_tls``: it would encrypt.
    """
    if tls:
        return (
            f"what listens at {where} does not speak MQTT with TLS (without it, that is without "
            "--ca and without a ca.crt in --secrets, brokers usually listen on port 1883)"
        )
    other = "with it, which --secrets or --ca bring, brokers usually listen on port 8883"
    if expects_tls:
        return (
            f"what listens at {where} expects TLS: give --ca FILE, that of its certificate "
            "authority, or --secrets with a ca.crt in it; without TLS brokers usually "
            "listen on port "
            "1883"
        )
    if silent:
        return (
            f"what listens at {where} rejects the connection: {SILENT}. Or it is not an MQTT broker"
        )
    return f"what listens at {where} does not speak MQTT (without TLS; {other})"


def refused(reason: Reason, username: str | None) -> str:
    """Say why a broker does not let somebody in."""
    do = _ADVICE.get(reason.code, "")
    if reason.code in (0x86, 0x87) and username is None:
        do = "give --secrets, the folder made by fedjury enroll"
    elif reason.code == 0x87:
        do = f"the login {username!r} and its password are wrong"
    return f"{reason.words}; {do}" if do else reason.words


def cut_off(reason: Reason, limits: BrokerLimits) -> str:
    """Say why a broker ended a connection."""
    told = reason.code == TOO_LARGE and limits.packet
    most = f" (it takes {limits.packet:,} bytes)" if told else ""
    do = _ADVICE.get(reason.code, "")
    return f"{reason.words}{most}; {do}" if do else f"{reason.words}{most}"


def no_receipt(reason: Reason) -> str:
    """Say why a broker did not take a message."""
    do = _ADVICE.get(reason.code, "")
    if reason.code == 0x87:
        do = (
            "its access rules do not allow that login to publish this: was it enrolled for another "
            "run?"
        )
    return f"{reason.words}; {do}" if do else reason.words


def lacking(where: str, limits: BrokerLimits) -> str:
    """Say what a broker will never do that we need; "" if it does it all."""
    if not limits.retain:
        return f"the broker at {where} {_RETAIN}"
    return f"the broker at {where} {_QOS}" if limits.qos < 1 else ""


def too_small(where: BrokerAddress, limits: BrokerLimits, wanted: int) -> str:
    """Say that a broker takes no message of so many bytes; "" if it does.

    Sent all the same, it would cut us off, and what it gives for a reason would often be lost.
    """
    if not 0 < limits.packet < wanted:
        return ""
    return (
        f"the broker at {where} takes messages of {limits.packet:,} bytes at most, and one of ours "
        f"has {wanted:,}; {_SIZE}"
    )


class Cut(NamedTuple):
    """What to make of a connection that the broker ended."""

    notice: str = ""
    kind: str = ""
    final: str = ""
    """Why the only one of its name gives up."""


def of_cut(name: str, run: str, told: Reason, limits: BrokerLimits, times: int) -> Cut:
    """Say what it means to have been cut off ``times`` times lately, at last for a reason, or none.

    Mosquitto 2.0 where another takes a name, and everybody in MQTT 3.1.1, gives none.
    """
    often = times > GIVEN_UP
    if told.refuses:
        text = f"the broker disconnected {name}: {cut_off(told, limits)}"
        return Cut(text, told.words, text if often or told.code in FINAL else "")
    silent = f"and does not say why: perhaps another client of run {run!r} uses its name"
    if often:
        final = f"the broker cut {name} off {times} times within {LATELY:.0f} s {silent}, and has "
        return Cut(final=f"{final}our place; or a message is larger than it takes. Its log knows")
    again = f"the broker lets {name} in and cuts it off, again and again, {silent}"
    return Cut(again, CUT_OFF) if times > AGAIN else Cut()


def open_to_all(where: str) -> str:
    """Say that a login is of no use."""
    return (
        f"warning: the broker at {where} accepts clients without a login, so yours (--secrets or "
        "--username) protects nothing: is it the broker that you meant? 'fedjury enroll' "
        "says how to start the one that knows these logins"
    )
