"""Who a party is to the broker, and by what it knows the broker: passwords, certificates, TLS.

A folder of secrets, as ``fedjury enroll`` makes them, holds for each login
``<login>.password``, or ``<login>.crt`` and ``<login>.key``, or all three; and ``ca.crt``, the
authority that vouches for the broker, where connections are encrypted.
"""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fedjury.config.sections import Broker
from fedjury.protocol.topics import ROOT, Topics, below
from fedjury.protocol.transport.connection import TransportError

SYSTEM = "system"
"""In the place of an authority's file: those that this machine trusts anyway."""


class BrokerAddress(NamedTuple):
    """Where a broker listens, who we are to it, and how long it may be silent (seconds)."""

    host: str
    port: int
    username: str | None = None
    """One login for all parties; without it each has its own in ``secrets``, if that is given."""
    password: str | None = None
    secrets: str = ""
    """Folder with the secrets of our parties."""
    ca: str = ""
    """PEM file of the authority that vouches for the broker; empty: the folder's, if it has one."""
    keepalive: int = 60
    tls: bool = False
    """Whether the connection is encrypted although no authority is given: then by whom this machine
    trusts."""
    root: str = ROOT
    """The topic below which our runs are: of those below another we hear nothing."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def topics(self) -> Topics:
        """All topics of our runs."""
        return below(self.root)

    @property
    def here(self) -> bool:
        """Whether it is this machine, and no other can hear what is said."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def address_of(broker: Broker, part: str) -> BrokerAddress:
    """Return where these settings lead to; ``part``: the folder of whose secrets they are."""
    secrets = str(Path(broker.secrets) / part) if broker.secrets else ""
    return BrokerAddress(
        broker.host,
        broker.port,
        broker.username or None,
        broker.password or None,
        secrets,
        broker.ca,
        broker.keepalive,
        broker.tls,
        broker.root,
    )


class Login(NamedTuple):
    """How one party logs in."""

    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    """None: the connection is not encrypted."""


def login_of(address: BrokerAddress, principal: str) -> Login:
    """Find how a party logs in; without the colon that tells it from an agent, its name is its own.

    Raises
    ------
    TransportError
        If there are secrets, but none for this party, or they cannot be read.
    """
    name = principal.removeprefix(":")
    if address.username is not None:
        return Login(address.username, address.password, _tls(address, ""))
    if not address.secrets:
        return Login(tls=_tls(address, ""))
    stem = str(Path(address.secrets) / name)
    password, certificate = Path(f"{stem}.password"), Path(f"{stem}.crt")
    try:
        secret = password.read_text(encoding="ascii").strip() if password.exists() else None
        if secret is None and not certificate.exists():
            raise TransportError(
                f"no secret of {name!r} is in {address.secrets}; "
                "'fedjury enroll --help' says how to make one"
            )
        login = Login(name, secret, _tls(address, stem if certificate.exists() else ""))
    except (OSError, UnicodeDecodeError) as why:
        raise TransportError(
            f"the secret of {name!r} in {address.secrets} cannot be read: {why}"
        ) from why
    if secret is None and login.tls is None:
        raise TransportError(f"{certificate} is of no use without the authority's ca.crt beside it")
    return login


def client_id_of(address: BrokerAddress, name: str, principal: str, login: Login) -> str:
    """Return what a party calls its connection; ``name``: what all know of it, run and principal.

    Whoever takes the client id of another throws the other out, where the broker lets clients
    choose it. So if the party has a secret of its own, the id ends with what only its owner knows.
    """
    if address.username is not None or not address.secrets:
        return name
    key = Path(address.secrets) / f"{principal.removeprefix(':')}.key"
    secret = key.read_bytes() if login.password is None else login.password.encode()
    return f"{name}.{hmac.new(secret, name.encode(), 'sha256').hexdigest()[:16]}"


def stranger(address: BrokerAddress) -> Login | None:
    """Return how one connects who has no login; None where we have none ourselves."""
    if address.username is None and not address.secrets:
        return None
    return Login(tls=_tls(address, ""))


def first_known(address: BrokerAddress, principals: Iterable[str]) -> str:
    """Return the first party of whom there is a secret, to ask the broker whether it lets us in.

    Raises
    ------
    TransportError
        If there are secrets, but none of any of them.
    """
    missing: TransportError | None = None
    for principal in principals:
        try:
            login_of(address, principal)
        except TransportError as why:
            missing = missing or why
        else:
            return principal
    if missing is not None:
        raise missing
    return ""


def _tls(address: BrokerAddress, stem: str) -> ssl.SSLContext | None:
    """Say how a connection is encrypted, if it is; ``stem``: of the files of its certificate."""
    ours, ca = Path(address.secrets) / "ca.crt", address.ca
    try:
        if not ca and address.secrets and ours.exists():
            ca = str(ours)
        if not ca and address.tls:
            ca = SYSTEM
        return tls_context("" if ca == SYSTEM else ca, stem) if ca else None
    except OSError as why:
        files = f"{ca or ours} and {stem}.crt" if stem else ca or ours
        raise TransportError(f"the certificates in {files} cannot be used: {why}") from why


@cache
def tls_context(ca: str, stem: str) -> ssl.SSLContext:
    """Make what TLS needs; all parties without a certificate of their own share one."""
    result = ssl.create_default_context(cafile=ca or None)
    result.minimum_version = ssl.TLSVersion.TLSv1_2
    if stem:
        result.load_cert_chain(f"{stem}.crt", f"{stem}.key", password="")  # nobody is here to ask
    return result
