"""The only doors to the network: typed messages in and out, no bytes, no library objects.

A ``Transport`` holds the doors of many parties in one process: each has a connection of its own,
and they share one inbox. A ``Connection`` is a transport with a single door: the aggregator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, Self

from fedjury.protocol.codec import Decoder
from fedjury.protocol.messages import EVERY_AGENT, Abilities, Message, Serving
from fedjury.protocol.topics import Topics
from fedjury.protocol.transport.once_only import OnceOnlyWarnings


class TransportError(Exception):
    """The network cannot be had: one sentence for the person who asked for it."""


class BrokerAway(TransportError):  # noqa: N818 - it is no error to whoever waits for it
    """Nobody answers where the broker should be, which may change."""


class Traffic(NamedTuple):
    """Bytes of payload received and sent so far."""

    received: int = 0
    sent: int = 0


class Delivery(NamedTuple):
    """A message, the party to whom it was delivered, and the bytes of its payload."""

    to: str
    message: Message
    size: int = 0


class Transport(Protocol):
    """The doors of many parties of one run, and one inbox for them all."""

    topics: Topics
    """Those of the root below which the run is."""
    run: str
    """Its name."""
    decoder: Decoder
    codecs: dict[type[Message], str]
    """How the vectors of a kind of messages travel, where not as float32."""
    traffic: Traffic

    def open(self, principal: str = "") -> Self:
        """Begin, and return itself. ``principal``: one that will join, who looks if it is let in.

        Raises
        ------
        TransportError
            If what it speaks to cannot be reached, or does not let us in.
        """

    def must_carry(self, size: int) -> None:
        """Make sure that messages of so many bytes are taken; raise ``TransportError`` if not."""

    @property
    def speaks(self) -> str:
        """What it speaks, for people."""

    @property
    def connections(self) -> int:
        """How many parties are connected right now."""

    @property
    def outside(self) -> Mapping[str, str]:
        """Who is not let in, or cannot get there -> why."""

    @property
    def notices(self) -> OnceOnlyWarnings:
        """What people should know of the connections."""

    @property
    def dropped(self) -> int:
        """How many messages the broker has thrown away since we look: of anybody, for anybody."""

    def watch_drops(self, name: str) -> None:
        """Tell a principal how many messages the broker drops, if the broker reports it."""

    def join(
        self,
        name: str,
        *kinds: type[Message],
        presence: bool = True,
        abilities: Abilities = EVERY_AGENT,
        serves: Serving | None = None,
    ) -> None:
        """Connect a party that wants these kinds, retained messages included.

        With ``presence`` it says that it is there, and what it is able to do; its last will says
        that it no longer is.
        ``serves``: it is the run's aggregator, and says this instead.
        """

    def fetch(self, name: str, kind: type[Message], value: object = "") -> None:
        """Ask once, for one party, for a retained message: of that version, where there are many.

        Where it is not there yet, it comes when it is published.
        """

    def listen(self, name: str, *kinds: type[Message]) -> None:
        """Let a party that has joined hear what it alone is told, of these kinds."""

    def send(self, name: str, message: Message) -> None:
        """Publish through the party's own connection; returns at once."""

    def clear(self, name: str, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""

    def forget(self, name: str) -> int:
        """Remove all that is retained of this run; returns how many topics that were.

        Nothing is received any more after it.
        """

    def receive(self, timeout: float) -> Delivery | None:
        """Wait up to ``timeout`` seconds for the next message.

        Raises ``BadMessage`` for one that is none, ``TransportError`` if there can be no more.
        """

    def close(self, *, forget: bool = False) -> None:
        """Send what is still to be sent, say goodbye for everyone, and leave.

        ``forget``: without leaving behind that they were there.
        """


class Connection:
    """One party's door: a transport that nobody else uses.

    A name that no agent can have, such as ``:aggregator``, keeps others off its client id.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport = transport
        self.name = name

    def subscribe(self, *kinds: type[Message], serves: Serving | None = None) -> None:
        """Connect, and ask for all messages of these kinds; ``serves``: see ``Transport.join``."""
        self.transport.join(self.name, *kinds, presence=False, serves=serves)

    @property
    def connected(self) -> bool:
        """Whether the party can be heard right now."""
        return self.transport.connections > 0

    def publish(self, message: Message) -> None:
        """Send a message; returns at once."""
        self.transport.send(self.name, message)

    def clear(self, message: Message) -> None:
        """Remove the retained message that stands where ``message`` would."""
        self.transport.clear(self.name, message)

    def receive(self, timeout: float) -> Message | None:
        """Wait up to ``timeout`` seconds for the next message; raises as ``Transport.receive``."""
        delivery = self.transport.receive(timeout)
        return delivery.message if delivery else None

    def close(self) -> None:
        """Send what is still to be sent, and leave."""
        self.transport.close()
