"""What is known of one party's connection: what it hears, what it said, how it fared."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from fedjury.protocol import codec
from fedjury.protocol.cells import CellWorker
from fedjury.protocol.messages import Abilities, AggregatorPresence, Message, Presence, Serving
from fedjury.protocol.topics import CHANNELS
from fedjury.protocol.transport.mqtt_client import FULL, Client, discarded, properties
from fedjury.protocol.transport.reasons import LATELY, BrokerLimits
from fedjury.protocol.transport.succession import Place


class MqttConnection:
    """One party's connection."""

    def __init__(
        self,
        name: str,
        client: Client,
        topic_of: Callable[[Message], str],
        filters: list[str],
        presence: Callable[[bool], Message] | None,
        limits: BrokerLimits,
        place: Place | None = None,
    ) -> None:
        """``presence``: what it says of itself, online or not, if anything.

        ``topic_of``: where a message belongs. ``place``: of who serves the run.
        """
        self.name = name
        self.client = client
        self.filters = filters
        self.presence = presence
        self.place = place
        if presence is not None:
            will = presence(False)
            topic, payload = topic_of(will), codec.encode(will)
            client.will_set(topic, payload, qos=1, retain=True)
        self.fetching: set[str] = set()
        """Topics it hears until the first message has come."""
        self.fetched: list[str] = []
        """Topics of which it has: we unsubscribe as soon as paho lets us."""
        self.retained: dict[str, tuple[Message, bytes]] = {}
        """What it retained at the broker, by topic: a broker that was restarted has forgotten."""
        self.remembers = True
        """Whether it says that again by itself; who repeats what others say cannot know if it
        still holds."""
        self.unacknowledged = 0
        self.limits = limits
        """What the broker takes, where it says so."""
        self.failures = 0
        """How often in a row it was turned away, or cut off before it could settle."""
        self.cut_off: list[float] = []
        """When it lately was, though the broker was there (seconds, monotonic)."""
        self.connected = False
        self.before = False
        """Whether it was connected once."""
        self.since = 0.0
        """When it last began to connect, or was connected (seconds, monotonic)."""
        self.away = False
        """Whether it never connects."""
        self.due = True
        """Whether it waits for its turn to connect."""
        self.writing = False
        """Whether the selector tells us when the socket can take more."""

    def say(self, topic: str, message: Message, payload: bytes, *, five: bool) -> bool:
        """Publish a message, or empty its topic; False if too much waits to be sent already.

        ``five``: the broker speaks MQTT 5.
        """
        channel = CHANNELS[type(message)]
        presence = isinstance(message, Presence | AggregatorPresence | CellWorker)
        if channel.retain and self.remembers and not presence:
            self.retained.pop(topic, None)
            if payload:
                self.retained[topic] = message, payload
        content = properties(channel.content_type, channel.expiry) if five and payload else None
        taken = self.client.publish(topic, payload, channel.qos, channel.retain, content).rc != FULL
        self.unacknowledged += taken
        return taken

    def fetch(self, topic: str, *, once: bool = True) -> None:
        """Subscribe to a topic; ``once``: until the first message has come."""
        if topic not in self.filters:
            self.filters.append(topic)  # so that a new connection asks for it again
        if once:
            self.fetching.add(topic)
        self.client.subscribe(topic, qos=1)

    def has_come(self, topic: str) -> None:
        """Note that a message has come on a topic."""
        if topic in self.fetching:
            self.fetching.discard(topic)
            self.fetched.append(topic)

    def leave_fetched(self) -> None:
        """Unsubscribe from what was fetched: nobody wants what is retained there later."""
        if self.fetched:
            self.client.unsubscribe(self.fetched)
            self.filters[:] = [topic for topic in self.filters if topic not in self.fetched]
            self.fetched.clear()

    def cut(self, now: float) -> int:
        """Note that it was cut off; returns how often it lately was."""
        self.cut_off = [when for when in self.cut_off if now - when < LATELY] + [now]
        return len(self.cut_off)


def events(writing: bool) -> int:
    """Return what a selector watches a connection for."""
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)


def hang_up(
    doors: Iterable[MqttConnection], selector: selectors.BaseSelector, until: float
) -> None:
    """Close connections; until then (seconds, monotonic) the broker may close its ends first.

    Whose end is closed with something unread in it resets the connection: the broker may then
    overlook that it was said goodbye to, and tell our last will.
    """
    clients = [connection.client for connection in doors]
    left = {sock for client in clients if (sock := client.hang_up()) is not None}
    while left and (wait := until - time.monotonic()) > 0:
        for key, _ in selector.select(wait):
            if not discarded(key.fileobj) and key.fileobj in left:
                left.remove(key.fileobj)
                selector.unregister(key.fileobj)
    for client in clients:
        client.close()


def presence_of(
    name: str, serves: Serving | None, abilities: Abilities | None
) -> Callable[[bool], Message] | None:
    """Return what a party says of itself when it comes and goes; None if it says nothing."""
    if serves is not None:
        return lambda online: replace(serves, online=online)
    if abilities is not None:
        return lambda online: Presence(name, online, round(time.time(), 3), *abilities)
    return None
