"""What the round is made of: its policy and state, the events it takes, the effects it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Collection as Names
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from aggregator.collection import Collection
from aggregator.rules import Rule
from learning.weights import Vector
from protocol.messages import Message, Model, Phase, Reason, Update, Vote


@dataclass(frozen=True)
class Policy:
    """What never changes during a run. Durations are in seconds."""

    rule: Rule
    evaluate: Callable[[Vector], float]
    """Accuracy of a model (d,) on held-out data."""
    rounds: int
    seed: int = 0
    server_lr: float = 1.0
    share: float = 1.0
    """Share of the agents called to contribute (the papers' β)."""
    threshold: int = 0
    """Updates that close a round; 0: as many as were called."""
    at_least: int = 1
    collect_seconds: float = 60.0
    spoilt_seconds: float = 2.0
    """How long to wait for those whose update was refused once everybody else has answered."""
    attempts: int = 5
    validators: int = 0
    quorum: int = 5
    look_back: int = 10
    warm_up: int = 0
    vote_seconds: float = 30.0
    finite: bool = True
    samples_cap: int = 1000


class Tick(NamedTuple):
    """How late it is (seconds), who is online, and the traffic so far (bytes)."""

    now: float
    online: Names[str] = ()
    received: int = 0
    sent: int = 0


class Refused(NamedTuple):
    """A message that was refused before it got here; ``update``: it came as an update."""

    agent: str
    reason: Reason
    update: bool = False


Event = Update | Vote | Refused | Tick


class Publish(NamedTuple):
    """Send this."""

    message: Message


class Clear(NamedTuple):
    """Remove what is retained where this message would stand."""

    message: Message


class Persist(NamedTuple):
    """Make the finished round durable, and the model if it was accepted, before anything else."""

    record: dict[str, Any]
    accepted: Model | None


class Refuse(NamedTuple):
    """Tell people that a message was refused: who (may be empty), why, and all counts so far."""

    agent: str
    reason: Reason
    refused: Mapping[str, int]


Effect = Publish | Clear | Persist | Refuse

NO_UPDATES = Collection.of()
NONE: Mapping[str, Any] = MappingProxyType({})


class State(NamedTuple):
    """A round as far as it has got. Models are (d,) vectors."""

    version: int
    weights: Vector
    round: int
    """Counted from 1; the round before the first is 0."""
    phase: Phase | None = None
    """None until the first tick opens a round."""
    attempt: int = 1
    accuracy: float | None = None
    called: frozenset[str] = frozenset()
    validators: tuple[str, ...] = ()
    updates: Collection = NO_UPDATES
    votes: Mapping[str, Vote] = NONE
    spoilt: frozenset[str] = frozenset()
    """Called agents under whose name an update came that was refused for its content."""
    settled: float | None = None
    """Since when nobody is missing but those."""
    refused: Mapping[str, int] = NONE
    candidate: Vector | None = None
    opened: Tick = Tick(0.0)
    deadline: float = 0.0
    failure: str | None = None
    """Why the run was given up, if it was."""
