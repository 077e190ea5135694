"""What tests on a real broker share: bounded waiting, and a raw client that is none of ours."""

from __future__ import annotations

import contextlib
import threading
import time

import paho.mqtt.client as paho


def until(condition, seconds=20.0):
    """Poll until the condition holds and return what it gave; fails after ``seconds``.

    The longer it takes the rarer it looks: a look at a page or a log costs others their time.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, f"not within {seconds:g} s"
        time.sleep(min(0.05, max(0.01, waited / 20)))
    return found


class RawClient:
    """A plain paho client on paho's own thread; what it hears is in ``heard``, in order."""

    def __init__(self, address, *topics, protocol=paho.MQTTv311, login=None):
        self.heard = []
        self.lost = threading.Event()
        self._granted = threading.Event()
        self._connected = threading.Event()
        self._topics = topics
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=protocol)
        self.paho.on_connect = self._on_connect
        self.paho.on_message = lambda *args: self.heard.append(args[2])
        self.paho.on_subscribe = lambda *_: self._granted.set()
        self.paho.on_disconnect = lambda *_: self.lost.set()
        if login:
            self.paho.username_pw_set(*login)
        self.paho.connect(address.host, address.port, keepalive=300)
        self.paho.loop_start()
        assert self._connected.wait(10)
        assert not topics or self._granted.wait(10)

    def _on_connect(self, *_):
        if self._topics:
            self.paho.subscribe([(topic, 1) for topic in self._topics])
        self._connected.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        thread = self.paho._thread  # paho's own loop_stop asks it twice, the second time too late
        with contextlib.suppress(OSError):
            self.paho.disconnect()
        if thread is not None:
            thread.join(10)

    def publish(self, topic, payload, *, retain=False):
        """Publish at QoS 1 and wait for the broker's receipt."""
        self.paho.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def payloads(self, part):
        """Return the payloads heard so far on topics that contain ``part``."""
        return [m.payload for m in list(self.heard) if part in m.topic and m.payload]
