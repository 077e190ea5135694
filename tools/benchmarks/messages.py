"""W1's messages alone: 1,000 bare paho clients on one selector loop, and no training at all.

What a round sends: ``round`` and ``model`` to every agent, an ``update`` of the model's size from
each, all with QoS 1. This is the floor that the network sets: paho as it comes, without our hub.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fedjury.broker.local import BrokerAddress, local_broker

MODEL = os.urandom(52_480)
ROUND = os.urandom(150)
CONNECTING = 64


class Crowd:
    """A collector and n agents, on one thread."""

    def __init__(self, broker: BrokerAddress, agents: int) -> None:
        self.broker = broker
        self.selector = selectors.DefaultSelector()
        self.ready = self.collected = 0
        self.called: list[tuple[mqtt.Client, str]] = []
        self.collector = self.client("collector", ["update/+"], self.collect)
        for number in range(agents):
            self.client(f"agent-{number}", ["round", "model"], self.answer)
            while self.ready < number + 2 - CONNECTING:
                self.turn()
        while self.ready < agents + 1:
            self.turn()
        self.settle()

    def client(self, name: str, topics: list[str], heard: Callable[..., None]) -> mqtt.Client:
        """Connect a client that wants these topics."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, userdata=name)
        client.on_connect = partial(self.connected, topics)
        client.on_subscribe = self.subscribed
        client.on_message = heard
        client.connect(self.broker.host, self.broker.port, 300)
        sock: Any = client.socket()
        self.selector.register(sock, selectors.EVENT_READ, client)
        return client

    def connected(self, topics: list[str], client: mqtt.Client, *_: object) -> None:
        """Subscribe."""
        client.subscribe([(topic, 1) for topic in topics])

    def subscribed(self, *_: object) -> None:
        """Count who is ready."""
        self.ready += 1

    def collect(self, *_: object) -> None:
        """Count an update."""
        self.collected += 1

    def answer(self, client: mqtt.Client, name: str, message: mqtt.MQTTMessage) -> None:
        """Remember to send an update: paho does not send from inside a callback."""
        if message.topic == "model":
            self.called.append((client, name))

    def turn(self) -> None:
        """Read what has come and write what is due."""
        for key, _ in self.selector.select(0.05):
            key.data.loop_read()
            if key.data.want_write():
                key.data.loop_write()
        for client, name in self.called:
            client.publish(f"update/{name}", MODEL, qos=1)
        self.called.clear()

    def settle(self) -> None:
        """Let what is on its way arrive."""
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            self.turn()

    def round(self, agents: int) -> float:
        """Send and collect one round; returns its seconds."""
        self.collected = 0
        start = time.perf_counter()
        self.collector.publish("round", ROUND, qos=1, retain=True)
        self.collector.publish("model", MODEL, qos=1, retain=True)
        while self.collected < agents:
            self.turn()
        seconds = time.perf_counter() - start
        self.settle()
        return seconds


def rounds(count: int, agents: int = 1000) -> list[float]:
    """Return the seconds of ``count`` rounds of messages, after one that warms up."""
    with local_broker(say=lambda _: None) as broker:
        crowd = Crowd(broker, agents)
        return [crowd.round(agents) for _ in range(count + 1)][1:]
