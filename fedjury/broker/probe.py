"""Whether a broker is there."""

from __future__ import annotations

import socket
import ssl

CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
"""MQTT 3.1.1, clean session, keep-alive 10 s, a client id of the broker's choice."""
CONNACK = b"\x20\x02\x00"
"""The last of its four bytes says whether we are let in: an answer it is in any case."""
DISCONNECT = b"\xe0\x00"

SECONDS = 1.0


def answers(host: str, port: int, *, tls: bool = False) -> bool:
    """Connect as an MQTT client and leave again; whether there was an answer.

    Behind TLS we are a stranger: it is enough that the broker says who it is.
    """
    try:
        with socket.create_connection((host, port), timeout=SECONDS) as connection:
            if tls:
                anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
                anybody.wrap_socket(connection).close()
                return True
            connection.sendall(CONNECT)
            answer = connection.recv(len(CONNACK) + 1)
            connection.sendall(DISCONNECT)
            return answer.startswith(CONNACK)
    except OSError:
        return False
