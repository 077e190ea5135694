"""What tests on strangers share: a broker with an enrolment, and raw clients that say who they are.

The clients are plain paho's, none of ours: they do what the protocol lets them, and tell what the
broker answered.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading

import paho.mqtt.client as paho
from support.listening import until

RUN = "fl/v2/lab"


class Caller:
    """A client on paho's own thread; ``heard`` are the topics and payloads that came, in order."""

    def __init__(
        self,
        address,
        login=None,
        password=None,
        *topics,
        protocol=paho.MQTTv311,
        client_id="",
        will=None,
        tls=None,
        clean=True,
    ):
        self.heard = []
        self.topics = set()
        """All topics on which something came."""
        self.answer = self.session = None
        """What the broker said to us, and whether it knew us."""
        self.cut = None
        """Why the connection ended, once it has."""
        self._answered, self._granted = threading.Event(), threading.Event()
        self._receipts = queue.SimpleQueue()
        fresh = {} if protocol == paho.MQTTv5 else {"clean_session": clean}
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=protocol,
            reconnect_on_failure=False,
            **fresh,
        )
        if login is not None:
            self.paho.username_pw_set(login, password)
        if tls is not None:
            self.paho.tls_set_context(tls)
        if will:
            self.paho.will_set(*will, qos=1, retain=True)
        self.paho.on_connect = self._connected
        self.paho.on_message = self._hear
        self.paho.on_subscribe = lambda *_: self._granted.set()
        self.paho.on_publish = lambda *args: self._receipts.put(str(args[3]))
        self.paho.on_disconnect = self._disconnected
        self.paho.on_socket_open = _at_once
        self._topics = topics
        with contextlib.suppress(OSError):  # what is refused while TLS begins is told by ``answer``
            self.paho.connect(address.host, address.port, keepalive=300)
            self.paho.loop_start()
            assert self._answered.wait(10)
            assert not topics or not self.let_in or self._granted.wait(10)

    @property
    def let_in(self):
        """Whether the broker took us."""
        return self.answer == "Success"

    def _connected(self, _client, _data, flags, reason, _properties):
        self.answer, self.session = str(reason), flags.session_present
        if self._topics and self.let_in:
            self.paho.subscribe([(topic, 1) for topic in self._topics])
        self._answered.set()

    def _hear(self, _client, _data, message):
        self.topics.add(message.topic)
        self.heard.append((message.topic, message.payload))

    def _disconnected(self, _client, _data, _flags, reason, _properties):
        self.cut = self.cut or str(reason)  # paho tells twice
        self._answered.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.paho.disconnect()
        self.paho.loop_stop()

    def say(self, topic, payload=b"x", *, retain=False, properties=None):
        """Publish at QoS 1 and return what the receipt says."""
        self.paho.publish(topic, payload, qos=1, retain=retain, properties=properties)
        return self._receipts.get(timeout=10)

    def until_heard(self, topic, payload=None):
        """Wait for a message and return all that came before it; they are forgotten with it."""

        def place():
            return [
                i
                for i, (where, what) in enumerate(list(self.heard))
                if where == topic and payload in (None, what)
            ]

        first = until(place, 10)[0]
        before, self.heard[: first + 1] = self.heard[:first], []
        return before

    def drop_dead(self):
        """End the connection without a goodbye, so that the last will is due."""
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        self.paho.loop_stop()


def _at_once(_client, _data, sock):
    """Let small packets go without waiting for an acknowledgement of the last (40 ms each)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class House:
    """A broker that runs with an enrolment, and who calls there."""

    def __init__(self, address, folder):
        self.address, self.folder = address, folder

    def secret(self, login):
        """Return a login's password."""
        return next(self.folder.rglob(f"{login}.password")).read_text()

    def context(self, login=None):
        """Return what TLS needs to call as ``login``, or without a certificate."""
        made = ssl.create_default_context(cafile=self.folder / "broker" / "ca.crt")
        if login:
            file = next(self.folder.rglob(f"{login}.crt"))
            made.load_cert_chain(file, file.with_suffix(".key"))
        return made

    def call(self, login, *topics, **more):
        """Connect with a login's own secret."""
        if next(self.folder.rglob(f"{login}.crt"), None):
            return Caller(self.address, None, None, *topics, tls=self.context(login), **more)
        return Caller(self.address, login, self.secret(login), *topics, **more)
