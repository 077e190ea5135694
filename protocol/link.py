"""The only doors to the network: typed messages in and out, no bytes, no library objects.

A ``Hub`` holds the doors of many parties in one process: each has a connection of its own, and
they share one inbox. A ``Link`` is a hub with a single door, as the aggregator has it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from protocol.codec import Decoder
from protocol.messages import Message


class LinkError(Exception):
    """The network cannot be had: one sentence for the person who asked for it."""


class Traffic(NamedTuple):
    """Bytes of payload received and sent so far."""

    received: int = 0
    sent: int = 0


class Delivery(NamedTuple):
    """A message, the party to whom it was delivered, and the bytes of its payload."""

    to: str
    message: Message
    bytes: int = 0


class Hub(Protocol):
    """The doors of many parties of one run, and one inbox for them all."""

    decoder: Decoder
    codecs: dict[type[Message], str]
    """How the vectors of a kind of messages travel, where not as float32."""
    traffic: Traffic

    def join(self, name: str, *kinds: type[Message], presence: bool = True) -> None:
        """Connect a party that wants these kinds, retained messages included.

        With ``presence`` it says that it is there, and its last will that it no longer is.
        """

    def fetch(self, name: str, kind: type[Message], value: object = "") -> None:
        """Ask once, for one party, for a retained message: of that version, where there are many.

        Where it is not there yet, it comes when it is published.
        """

    def send(self, name: str, message: Message) -> None:
        """Publish through the party's own connection; returns at once."""

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""

    def receive(self, timeout: float) -> Delivery | None:
        """Wait up to ``timeout`` seconds for the next message.

        Raises ``BadMessage`` for one that is none, ``LinkError`` if there can be no more.
        """

    def close(self) -> None:
        """Send what is still to be sent, say goodbye for everyone, and leave."""


class Link:
    """One party's door: a hub that nobody else uses.

    A name that no agent can have, such as ``:aggregator``, keeps others off its client id.
    """

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name

    def subscribe(self, *kinds: type[Message]) -> None:
        """Connect, and ask for all messages of these kinds."""
        self.hub.join(self.name, *kinds, presence=False)

    def publish(self, message: Message) -> None:
        """Send a message; returns at once."""
        self.hub.send(self.name, message)

    def clear(self, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        self.hub.clear(self.name, message)

    def receive(self, timeout: float) -> Message | None:
        """Wait up to ``timeout`` seconds for the next message; raises as ``Hub.receive``."""
        delivery = self.hub.receive(timeout)
        return delivery.message if delivery else None

    def close(self) -> None:
        """Send what is still to be sent, and leave."""
        self.hub.close()
