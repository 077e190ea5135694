"""Brokers that are none, or that nobody should trust: raw servers, and certificates that fail."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from fedjury.broker import certificates
from fedjury.broker.local import HOST
from fedjury.protocol.credentials import BrokerAddress


@contextlib.contextmanager
def raw_broker(*answers):
    """Run a server that answers each connection's CONNECT with the next of these, the last ever on.

    It hangs up after it.
    """
    left = list(answers)

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, contextlib.suppress(OSError):
                    if connection.recv(1000):
                        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield BrokerAddress(*listener.getsockname())
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def connack(code, *properties):
    """Write a CONNACK of MQTT 5."""
    more = b"".join(properties)
    return bytes([0x20, 3 + len(more), 0, code, len(more)]) + more


def certificate(made, name, since, until_):
    """Certify a broker of this name from and until so many days from now; returns PEM with key."""
    key = serialization.load_pem_private_key(certificates.server(made, [name], 1).key, None)
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(made.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now + timedelta(days=since))
        .not_valid_after(now + timedelta(days=until_))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(name))]), critical=True
        )
        .sign(made.key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return signed.public_bytes(serialization.Encoding.PEM) + private


@contextlib.contextmanager
def tls_broker(folder, name=HOST, since=-1, until_=1, ca=True):
    """Run a server with a certificate; yields its address, by the authority that signed it."""
    made, files = certificates.establish()
    other = certificates.establish()[1]
    (folder / "ca.pem").write_bytes((files if ca else other).certificate)
    (folder / "broker.pem").write_bytes(certificate(made, name, since, until_))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "broker.pem")

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection, contextlib.suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield BrokerAddress(*listener.getsockname(), ca=str(folder / "ca.pem"))
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
