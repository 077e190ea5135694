"""Through which connections the agents of a process hear, and when those connect who come late."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fedjury.protocol.messages import (
    EVERY_AGENT,
    Abilities,
    AggregatorPresence,
    AttackVector,
    ColluderUpdate,
    Manifest,
    Manifest1,
    Message,
    Model,
    Round,
)
from fedjury.protocol.transport.connection import Transport

WANTED = (Manifest, Round, Model)
"""What everybody hears; candidates and history are for those who judge."""


class Colluders(NamedTuple):
    """What sets malicious agents apart on the network: whom they hear, and when they come."""

    colluding: frozenset[str] = frozenset()
    """Who hears of plots."""
    coordinator: str = ""
    """Who hears reports."""
    late: frozenset[str] = frozenset()
    """Who connects only when round ``arrive`` is announced."""
    arrive: int = 1


NOBODY = Colluders()
"""Empty: no malicious agent differs on the network."""


class Connections:
    """The connections of the agents of these names.

    ``shared``: all of them hear through one, a downlink. ``abilities``: what the agent of a name
    can do with a candidate.
    """

    def __init__(
        self,
        transport: Transport,
        names: list[str],
        colluders: Colluders,
        abilities: Callable[[str], Abilities] = lambda _: EVERY_AGENT,
        *,
        shared: bool,
    ) -> None:
        self._transport, self._names, self._colluders = transport, names, colluders
        self._abilities = abilities
        self.absent = colluders.late.intersection(names)
        """Who comes late, until there is a round to which they can have been called."""
        self._alone: tuple[type[Message], ...] = ()
        """What each is told by itself, where there is such."""
        self._came: tuple[int, int] | None = None
        """Round and attempt in which they connected."""
        # With a dot, so that it can pass for no agent.
        listener = f":listener.{names[0]}" if names else ""
        self.hearers: dict[str, frozenset[str] | None] = dict.fromkeys(names)
        """A connection that hears -> the agents that share it; None: it is an agent's own."""
        if shared:
            self.hearers = {listener: frozenset(names)}
        elif len(self.absent) == len(names):  # somebody has to hear when it is time to come
            self.hearers[listener] = frozenset()
        self.listeners = len(self.hearers.keys() - set(names))
        """Connections that are no agent's."""
        self.of = {name: listener if shared else name for name in names}
        """An agent's name -> that of the connection through which it hears."""

    def join(self) -> None:
        """Connect everybody who does not come late."""
        for name in dict.fromkeys((*self.hearers, *self._names)):
            if name not in self.absent:
                self._connect(name)

    def arrive(self, message: Round) -> bool:
        """Let who comes late connect when it is time; True once a turn may call them."""
        turn = message.round, message.attempt
        if not self.absent or message.round < self._colluders.arrive:
            return False
        if self._came is None:
            self._came = turn
            for name in sorted(self.absent):
                self._connect(name)
        elif turn > self._came:
            self.absent = frozenset()
            return True
        return False

    def hear_alone(self, *kinds: type[Message]) -> None:
        """Let each agent hear, on its own connection, what it alone is told of these kinds."""
        self._alone = kinds
        for name in self._names:
            if name not in self.absent:
                self._transport.listen(name, *kinds)

    def _connect(self, name: str) -> None:
        """Connect an agent, or a listener, which hears for others and is not there itself."""
        wanted: tuple[type[Message], ...] = WANTED if name in self.hearers else ()
        if name == next(iter(self.hearers)):  # one of them is enough
            wanted = (*wanted, Manifest1, AggregatorPresence)
        if name == self._colluders.coordinator:  # first who is called, then what they report
            wanted = (*dict.fromkeys((*wanted, Manifest, Round)), ColluderUpdate)
        hearing = (name,) if name in self.of else self._names
        if name in self.hearers and not self._colluders.colluding.isdisjoint(hearing):
            wanted = (*wanted, AttackVector)
        if name in self.of:
            self._transport.join(name, *wanted, abilities=self._abilities(name))
            if self._alone:
                self._transport.listen(name, *self._alone)
        else:
            self._transport.join(name, *wanted, presence=False)
