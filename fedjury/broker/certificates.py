"""A certificate authority for one federation: who is the broker, and who is which agent.

Its key makes certificates; whoever holds it can make one in any name. The certificates' keys lie
on the curve P-256.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEARS = 10
"""How long the authority is believed."""

SKEW = timedelta(days=1)
"""Certificates hold from yesterday on: the clocks of devices differ."""


class CertificateError(ValueError):
    """An authority's files that cannot be used, in one sentence."""


class CertificateAuthority(NamedTuple):
    """Who signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Pair(NamedTuple):
    """A certificate and its key as PEM, and the number by which it can be revoked."""

    certificate: bytes
    key: bytes
    serial: int


def establish() -> tuple[CertificateAuthority, Pair]:
    """Make a new authority; returns it, and its files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("fedjury authority")
    until = datetime.now(UTC) + timedelta(days=365 * YEARS)
    certificate = (
        _builder(name, name, key.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_others=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return CertificateAuthority(certificate, key), _pair(certificate, key)


def load(certificate: Path, key: Path) -> CertificateAuthority:
    """Read an authority's files.

    Raises
    ------
    CertificateError
        If they are no authority's.
    """
    try:
        result = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as why:
        raise CertificateError(f"{certificate} and {key} are no authority's: {why}") from why
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{key} is no key on an elliptic curve")
    if private.public_key() != result.public_key():
        raise CertificateError(f"{key} is not the key of {certificate}")
    return CertificateAuthority(result, private)


def client(ca: CertificateAuthority, login: str, days: int) -> Pair:
    """Certify that whoever holds this key is ``login``."""
    return _issue(ca, login, ExtendedKeyUsageOID.CLIENT_AUTH, days, [])


def server(ca: CertificateAuthority, hosts: Iterable[str], days: int) -> Pair:
    """Certify that whoever holds this key is the broker at these host names and IP addresses."""
    names = [_alternative(host) for host in hosts]
    return _issue(ca, "broker", ExtendedKeyUsageOID.SERVER_AUTH, days, names)


def revocations(ca: CertificateAuthority, serials: Iterable[int]) -> bytes:
    """List the certificates that hold no longer, as PEM.

    It stays true until the authority's end: a list that runs out shuts everybody out.
    """
    now = datetime.now(UTC)
    result = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - SKEW)
        .next_update(ca.certificate.not_valid_after_utc)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - SKEW)
        result = result.add_revoked_certificate(entry.build())
    return result.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _issue(
    ca: CertificateAuthority,
    name: str,
    use: x509.ObjectIdentifier,
    days: int,
    hosts: list[x509.GeneralName],
) -> Pair:
    """Sign a certificate for one use: an agent's does not make anybody a broker."""
    key = ec.generate_private_key(ec.SECP256R1())
    until = datetime.now(UTC) + timedelta(days=days)
    until = min(until, ca.certificate.not_valid_after_utc)
    signer = ca.key.public_key()
    result = (
        _builder(_named(name), ca.certificate.subject, key.public_key(), until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_others=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )
    if hosts:
        result = result.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
    return _pair(result.sign(ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - SKEW)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.serial_number,
    )
