"""A broker inside one process: the same topics and bytes as on a network, and no network.

For tests and for experiments. Messages arrive in the order in which they were published.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Self
from weakref import WeakValueDictionary

from fedjury.protocol.codec import Decoder
from fedjury.protocol.encoder import Encoder
from fedjury.protocol.messages import (
    EVERY_AGENT,
    Abilities,
    Message,
    Presence,
    Serving,
)
from fedjury.protocol.topics import CHANNELS, USUAL, Topics
from fedjury.protocol.transport.connection import Delivery, Traffic
from fedjury.protocol.transport.once_only import OnceOnlyWarnings


class MemoryBroker:
    """Keeps retained messages and hands every message to whoever asked for its topic."""

    def __init__(self) -> None:
        self.retained: dict[str, bytes] = {}
        self.listeners: list[Callable[[str, bytes], None]] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Take one message; an empty retained payload removes what was retained."""
        if retain:
            self.retained.pop(topic, None)
            if payload:
                self.retained[topic] = payload
        for listener in self.listeners:
            listener(topic, payload)


_named: WeakValueDictionary[str, MemoryBroker] = WeakValueDictionary()


def broker_named(name: str) -> MemoryBroker:
    """Return the broker of that name in this process, which is there while somebody uses it."""
    return _named.setdefault(name, MemoryBroker())


class MemoryTransport:
    """The doors of many parties to a memory broker, and one inbox."""

    def __init__(self, broker: MemoryBroker, run: str, topics: Topics = USUAL) -> None:
        self.codecs: dict[type[Message], str] = {}
        self.traffic = Traffic()
        self.inbox: deque[tuple[str, str, bytes]] = deque()
        self.broker, self.run, self.topics = broker, run, topics
        self.decoder = Decoder(topics)
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._wanted_by_any: set[tuple[str, ...]] = set()
        """What parties want, each once: of a thousand agents all want the same."""
        self._alone: dict[str, str] = {}
        """A topic that one party alone hears -> that party."""
        self._present: set[str] = set()
        self._serves: dict[str, Serving] = {}
        self.notices = OnceOnlyWarnings()
        self._encoder = Encoder(self.notices.add)
        self.outside: dict[str, str] = {}
        self.connections = 1
        self.dropped = 0
        self.speaks = "memory"
        broker.listeners.append(self._hear)

    def open(self, principal: str = "") -> Self:
        """Return itself: in memory nobody has to be let in."""
        del principal
        return self

    def must_carry(self, size: int) -> None:
        """Do nothing: memory carries messages of any size."""

    def watch_drops(self, name: str) -> None:
        """Do nothing: memory drops nothing."""

    def join(
        self,
        name: str,
        *kinds: type[Message],
        presence: bool = True,
        abilities: Abilities = EVERY_AGENT,
        serves: Serving | None = None,
    ) -> None:
        """Connect a party that wants these kinds, retained messages included."""
        self._wanted[name] = tuple(
            self.topics.where(self.run, kind, "") for kind in kinds if self.topics.has(kind)
        )
        self._wanted_by_any.add(self._wanted[name])
        for topic, payload in list(self.broker.retained.items()):
            self._deliver(name, topic, payload)
        if serves is not None:
            self._serves[name] = serves
            self.send(name, serves)
        elif presence:
            self._present.add(name)
            self.send(name, Presence(name, True, 0.0, *abilities))

    def fetch(self, name: str, kind: type[Message], value: object = "") -> None:
        """Ask once, for one party, for a retained message."""
        topic = self.topics.where(self.run, kind, value)
        if topic in self.broker.retained:
            self.inbox.append((name, topic, self.broker.retained[topic]))

    def listen(self, name: str, *kinds: type[Message]) -> None:
        """Let a party that has joined hear what it alone is told, of these kinds."""
        for kind in kinds:
            self._alone[self.topics.where(self.run, kind, name)] = name

    def send(self, name: str, message: Message) -> None:
        """Publish a message of a party."""
        del name
        payload = self._encoder.encode(message, self.codecs.get(type(message), "float32"))
        self.traffic = self.traffic._replace(sent=self.traffic.sent + len(payload))
        retain = CHANNELS[type(message)].retain
        self.broker.publish(self.topics.of(self.run, message), payload, retain=retain)

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        del name
        self.broker.publish(self.topics.of(self.run, message), b"", retain=True)

    def forget(self, name: str) -> int:
        """Remove all that is retained of this run; returns how many topics that were."""
        self._wanted.pop(name, None)
        ours = [
            topic
            for topic in self.broker.retained
            if topic.startswith(f"{self.topics.root}/{self.run}/")
        ]
        for topic in ours:
            self.broker.publish(topic, b"", retain=True)
        return len(ours)

    def receive(self, timeout: float = 0) -> Delivery | None:
        """Return the next message, or None: in one process there is nothing to wait for."""
        del timeout
        if not self.inbox:
            return None
        name, topic, payload = self.inbox.popleft()
        self.traffic = self.traffic._replace(received=self.traffic.received + len(payload))
        return Delivery(name, self.decoder.decode(topic, payload), len(payload))

    def close(self, *, forget: bool = False) -> None:
        """Say goodbye for everyone; ``forget``: without leaving behind that they were there."""
        self._wanted.clear()
        leaving: list[tuple[str, Message]] = [
            *((name, Presence(name, online=False, since=0.0)) for name in sorted(self._present)),
            *((name, replace(message, online=False)) for name, message in self._serves.items()),
        ]
        for name, goodbye in leaving:
            self.send(name, goodbye)
            if forget:
                self.clear(name, goodbye)
        self._present.clear()
        self._serves.clear()
        with suppress(ValueError):  # it may have left before
            self.broker.listeners.remove(self._hear)

    def vanish(self) -> None:
        """Hear nothing more, without a goodbye: as a process that is killed."""
        if self._hear in self.broker.listeners:
            self.broker.listeners.remove(self._hear)

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic in self._alone:
            self.inbox.append((self._alone[topic], topic, payload))
        if any(map(topic.startswith, self._wanted_by_any)):
            for name in self._wanted:
                self._deliver(name, topic, payload)

    def _deliver(self, name: str, topic: str, payload: bytes) -> None:
        """Put a message into the inbox if the party asked for it."""
        wanted = topic.startswith(self._wanted[name])
        if wanted and not self.topics.is_retained_clear(topic, payload):
            self.inbox.append((name, topic, payload))
