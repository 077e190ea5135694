"""What a run is about: the message with which it begins, and what older agents are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PROTOCOL = 2
"""The version that we speak; docs/protocol.md says how it may grow without another."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run is about; all that an agent needs to know before the first round."""

    model: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    parameters: int
    classes: int = field(default=0, kw_only=True)
    """How many are told apart; 0: numbers are predicted, or the aggregator does not know."""
    input_shape: tuple[int, ...] = field(default=(), kw_only=True)
    """Of one sample; empty where the aggregator does not know."""
    fixed: str = field(default="", kw_only=True)
    """A fingerprint of the aggregator's frozen parameters and constants; empty: it has none."""
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    codec: str
    """How updates should be encoded; every codec of the protocol is accepted."""
    history_codec: str
    """How candidates and history are encoded, and so what judges look at."""
    max_bytes: int
    judge: str
    judge_options: dict[str, Any]
    look_back: int
    minimum_history: int
    protocol: int = PROTOCOL
    loss: str = ""
    """What is trained towards, by name; empty: cross-entropy, or the squared error of numbers."""
    loss_options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    counts: bool = False
    """Whether votes are to carry the errors that their validators counted."""
    group_judge: str = ""
    """How validators compare groups; empty: each as the judge does, with the history of groups."""
    secure: dict[str, Any] = field(default_factory=dict)
    """Where updates are added up under masks: what an agent should ask for at the least, by the
    names of ``fedjury.secure.agent.Least``."""
    cells: dict[str, Any] = field(default_factory=dict)
    """Where cells keep their updates: into how many ``partitions`` of columns they cut them, and
    whether these must be ``finite``. Agents do not look at it."""


@dataclass(frozen=True, slots=True)
class Manifest1:
    """A manifest as the first version's agents read it, where they look for it.

    All that it says is which protocol the run speaks: such an agent tells its people so, and ends.
    The other keys hold nothing; it refuses a manifest without them.
    """

    protocol: int
    model: str = ""
    tensors: tuple[tuple[str, tuple[int, ...]], ...] = ()
    parameters: int = 1
    classes: int = 1
    input_shape: tuple[int, ...] = (1, 1, 1)
    epochs: int = 1
    batch_size: int = 1
    learning_rate: float = 1.0
    momentum: float = 0.0
    codec: str = "float32"
    history_codec: str = "float32"
    max_bytes: int = 1
    judge: str = ""
    judge_options: dict[str, Any] = field(default_factory=dict)
    look_back: int = 0
    minimum_history: int = 0
