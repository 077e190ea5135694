"""What the runner of a process needs of its agents, be they simulated or one real device."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from fedjury.agents.agent import Contribute, Evaluate, Judge, JudgeGroups, Train
from fedjury.protocol.messages import (
    AttackVector,
    ColluderUpdate,
    Decline,
    GroupVotes,
    Metrics,
    Round,
    Update,
    Vector,
    Vote,
)


class Batch(Protocol):
    """The agents of one process: how they train and judge. It knows no network and no clock."""

    @property
    def number(self) -> int:
        """The round it is in; -1 before the first."""

    @property
    def unclipped(self) -> Collection[str]:
        """Which of its agents send what they like where others clip their updates."""

    def keep(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,), and forget those that no judge will ask for."""

    def look_back_at(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,) that came as history."""

    def look_back_at_group(self, version: int, weights: Vector) -> None:
        """Remember the candidate (d,) of a group of an accepted model that came as history."""

    def exclude(self, absent: frozenset[str]) -> None:
        """Leave out of rounds for everybody those agents that have not come yet."""

    def begin(self, message: Round) -> None:
        """Plan the training of a round."""

    def contribute(self, message: Round, task: Contribute, candidate: Vector) -> None:
        """Judge a candidate (d,), and plan to train from it if it is clean."""

    def train_chunk(self) -> list[str]:
        """Train some of those that are planned; returns who that was."""

    def observe(self, message: ColluderUpdate | AttackVector, now: float) -> None:
        """Take what a colluding agent said; ``now`` in seconds."""

    def collude(self, now: float) -> tuple[list[ColluderUpdate | AttackVector], Collection[str]]:
        """Return what colluding agents say now, and which of them are ready to send."""

    def update(self, name: str, task: Train | Contribute) -> Update | Vote | Decline | None:
        """Return what an agent sends for this round, if it is ready."""

    def trained_from(self, name: str) -> Vector:
        """Return the model (d,) from which an agent's update of this round was trained."""

    def votes(self, names: Sequence[str], task: Judge, candidate: Vector) -> list[Vote | Decline]:
        """Return the votes of these agents on a candidate (d,), or that one cannot judge it."""

    def group_votes(
        self,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        candidates: Mapping[int, Vector],
    ) -> list[GroupVotes | Decline]:
        """Return the votes of these agents on the groups given to each, or that one cannot judge.

        ``candidates``: those (d,) of the groups, by number.
        """

    def measure(
        self, names: Sequence[str], task: Evaluate, candidate: Vector
    ) -> list[Metrics | Decline]:
        """Return what these agents measure of a candidate (d,), or that one cannot."""
