"""What a step of the round wants done: said, made durable, counted; in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedjury.detection.state import AgentRegistry
from fedjury.learning.weights import Vector
from fedjury.protocol.messages import Message, Model, Reason
from fedjury.protocol.record import RoundRecord
from fedjury.round.memory import RuleMemory
from fedjury.round.release import Release
from fedjury.round.sums import OpenedSums


@dataclass(frozen=True, slots=True)
class Publish:
    """Send this."""

    message: Message


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove what is retained where this message would stand."""

    message: Message


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the finished round durable, and the model if it was accepted, before anything else."""

    record: RoundRecord
    accepted: Model | None
    pending: Vector | None = None
    """Piggy-back: the round's candidate, of which the next round decides."""
    registry: AgentRegistry | None = None
    """What is known of the agents from now on, if anything is to be remembered."""
    memory: RuleMemory | None = None
    """What the rule keeps from now on, if it keeps anything."""
    group: Vector | None = None
    """The candidate (d,) of one of the accepted model's groups, where groups are voted on."""


@dataclass(frozen=True, slots=True)
class PersistRelease:
    """Make a noisy candidate durable before anybody is told of it.

    So that its noise is drawn once, whatever happens to the aggregator, and what it costs counts.
    """

    release: Release


@dataclass(frozen=True, slots=True)
class PersistSums:
    """Make durable which sums are opened over a model, before anybody is asked to open another."""

    sums: OpenedSums


@dataclass(frozen=True, slots=True)
class CountInvalid:
    """Tell people that a message was refused: who (may be empty), why, and all counts so far."""

    agent: str
    reason: Reason
    invalid: Mapping[str, int]


Effect = Publish | Clear | Persist | PersistRelease | PersistSums | CountInvalid
