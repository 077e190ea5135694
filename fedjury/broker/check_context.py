"""What a probe of a broker works with: nodes, logins, topics of its own, and a deadline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fedjury.broker.check_client import CheckClient, Gone
from fedjury.broker.principals import AGGREGATOR
from fedjury.protocol.credentials import BrokerAddress, login_of

SPREAD = 0.3
"""Seconds that a subscription, or a connection, may take to be known at other nodes."""


@dataclass
class Node:
    """A broker, or one of a cluster, and how it speaks."""

    address: BrokerAddress
    five: bool


class Logins(NamedTuple):
    """As whom to connect."""

    agent: str
    secrets: tuple[str, str] | None = None
    """Folders of the aggregator's secret and the agent's; None: without, or one login for both."""


class Silence(NamedTuple):
    """A client that says nothing any more."""

    client: CheckClient
    observer: CheckClient
    """It is sent the will of that."""
    since: float


@dataclass
class ProbeContext:
    """Where the probes work: between two nodes, until a moment, below a run of their own."""

    agent_at: Node
    aggregator_at: Node
    run: str
    logins: Logins
    agents: int
    """Of the run that is planned."""
    needed: int
    """Bytes of its model."""
    deadline: float
    retained: set[str] = field(default_factory=set)
    """Topics that may hold something of ours."""
    silent: Silence | None = None
    """A client that is silent while others speak."""

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.deadline - time.monotonic())

    def topic(self, rest: str) -> str:
        """Return a topic of the run."""
        return f"{self.agent_at.address.root}/{self.run}/{rest}"

    @property
    def update(self) -> str:
        """The topic of the agent's updates."""
        return self.topic(f"update/{self.logins.agent}")

    @property
    def presence(self) -> str:
        """The topic on which it is present, or its will says that it is not."""
        return self.topic(f"agent/{self.logins.agent}")

    def as_agent(self, *, at: Node | None = None, **how: object) -> CheckClient:
        """Connect as the agent."""
        return self._client(at or self.agent_at, self.logins.agent, 1, **how)

    def as_aggregator(self, **how: object) -> CheckClient:
        """Connect as the aggregator."""
        return self._client(self.aggregator_at, AGGREGATOR, 0, **how)

    def as_silent(self, **how: object) -> CheckClient:
        """Connect where the agent does, under a name without a secret."""
        return self._client(self.agent_at, "silent", 1, **how)

    def as_observer(self) -> CheckClient:
        """Connect where the aggregator does, under a name without a secret."""
        return self._client(self.aggregator_at, "observer", 0)

    def _client(self, node: Node, name: str, part: int, **how: object) -> CheckClient:
        folder = self.logins.secrets[part] if self.logins.secrets else ""
        address = node.address._replace(secrets=folder)
        login = login_of(address, f":{name}")
        return CheckClient(address, login, f"{self.run}.{name}", five=node.five, **how)  # type: ignore[arg-type]

    def listen(self, aggregator: CheckClient) -> int | None:
        """Subscribe to updates; another node may need a moment to hear of it."""
        granted = aggregator.subscribe(self.topic("update/+"))
        if self.agent_at != self.aggregator_at:
            aggregator.receive(1, SPREAD)
        return granted

    def keep(self, client: CheckClient, topic: str, payload: bytes) -> None:
        """Retain something, and remember where.

        Raises
        ------
        Gone
            If it is not acknowledged.
        """
        self.retained.add(topic)
        client.publish(topic, payload, retain=True)
        if not client.settle():
            raise Gone("the broker does not acknowledge a retained message")


@contextlib.contextmanager
def leaving(*clients: CheckClient) -> Iterator[None]:
    """Let clients say goodbye at the end."""
    try:
        yield
    finally:
        for client in clients:
            client.leave()
