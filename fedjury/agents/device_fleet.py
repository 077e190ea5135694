"""Many devices in one process: a fleet of them, as in a simulation."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from fedjury.agents.agent import Contribute, Evaluate, Judge, JudgeGroups, Train
from fedjury.agents.agent_runner import AgentRunner
from fedjury.agents.device_batch import DeviceBatch
from fedjury.agents.waiting import Waiting
from fedjury.protocol.messages import (
    AttackVector,
    ColluderUpdate,
    Decline,
    GroupVotes,
    Manifest,
    Metrics,
    Round,
    Update,
    Vector,
    Vote,
)
from fedjury.protocol.transport.connection import Transport

if TYPE_CHECKING:
    from fedjury.agents.device import Device


class DeviceFleet:
    """The batch of a process with many devices; see ``fedjury.agents.batch``."""

    unclipped: tuple[str, ...] = ()

    def __init__(self, batches: Iterable[DeviceBatch]) -> None:
        self._batches = {batch.name: batch for batch in batches}
        self._due: list[str] = []
        """Who may still have to train, the next one last."""
        self._last_round: Round | None = None
        self._last_model: Vector | None = None
        """What came last, which comes once for every connection."""

    @property
    def number(self) -> int:
        """The round they are in; -1 before the first."""
        return max((batch.number for batch in self._batches.values()), default=-1)

    def keep(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,), and forget those that no judge will ask for."""
        if self._last_model is weights:
            return
        self._last_model = weights
        for batch in self._batches.values():
            batch.keep(version, weights)

    def look_back_at(self, version: int, weights: Vector) -> None:
        """Remember an accepted model (d,) that came as history."""
        for batch in self._batches.values():
            batch.look_back_at(version, weights)

    def look_back_at_group(self, version: int, weights: Vector) -> None:
        """Remember the candidate (d,) of a group of an accepted model that came as history."""
        for batch in self._batches.values():
            batch.look_back_at_group(version, weights)

    def exclude(self, absent: frozenset[str]) -> None:
        """Do nothing: all are there."""

    def begin(self, message: Round) -> None:
        """Plan the training of a round."""
        if self._last_round is message:
            return
        self._last_round = message
        for batch in self._batches.values():
            batch.begin(message)
        self._plan()

    def contribute(self, message: Round, task: Contribute, candidate: Vector) -> None:
        """Let the selected ones judge a candidate (d,), and plan to train from it if clean."""
        for name in message.trains.among(self._batches):
            self._batches[name].contribute(message, task, candidate)
        self._plan()

    def _plan(self) -> None:
        self._due = sorted((n for n, b in self._batches.items() if b.planned), reverse=True)

    def train_chunk(self) -> list[str]:
        """Let the next one train; returns who that was."""
        while self._due and not self._batches[self._due[-1]].planned:
            self._due.pop()
        return self._batches[self._due[-1]].train_chunk() if self._due else []

    def observe(self, message: ColluderUpdate | AttackVector, now: float) -> None:
        """Do nothing: devices do not collude."""

    def collude(self, now: float) -> tuple[list[ColluderUpdate | AttackVector], Collection[str]]:  # noqa: ARG002
        """Return nothing: devices do not collude."""
        return [], ()

    def update(self, name: str, task: Train | Contribute) -> Update | Vote | Decline | None:
        """Return what a device sends for this round, if it is ready."""
        return self._batches[name].update(name, task)

    def trained_from(self, name: str) -> Vector:
        """Return the model (d,) from which a device's update of this round was trained."""
        return self._batches[name].trained_from(name)

    def votes(self, names: Sequence[str], task: Judge, candidate: Vector) -> list[Vote | Decline]:
        """Return the votes of these devices on a candidate (d,), or that one cannot judge it."""
        asked = (self._batches[name].votes([name], task, candidate) for name in names)
        return [answer for answers in asked for answer in answers]

    def group_votes(
        self,
        given: Mapping[str, tuple[int, ...]],
        task: JudgeGroups,
        candidates: Mapping[int, Vector],
    ) -> list[GroupVotes | Decline]:
        """Return the votes of these devices on the groups given to each, or that one cannot."""
        asked = (
            self._batches[name].group_votes({name: groups}, task, candidates)
            for name, groups in given.items()
        )
        return [answer for answers in asked for answer in answers]

    def measure(
        self, names: Sequence[str], task: Evaluate, candidate: Vector
    ) -> list[Metrics | Decline]:
        """Return what these devices measure of a candidate (d,), or that one cannot."""
        asked = (self._batches[name].measure([name], task, candidate) for name in names)
        return [answer for answers in asked for answer in answers]


def fleet_runner(
    devices: Sequence[Device],
    transport: Transport,
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    *,
    shared: bool = False,
    waiting: Waiting | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AgentRunner:
    """Return what lets these devices take part in one run over one transport.

    ``shared``: all of them hear through one connection.

    Raises
    ------
    ValueError
        If two have the same name, or there is none.
    """
    by_name = {device.name: device for device in devices}
    if len(by_name) < len(devices) or not devices:
        raise ValueError("devices need names of their own, and there must be one at least")

    def assemble(manifest: Manifest) -> DeviceFleet:
        return DeviceFleet(device.batch(manifest) for device in devices)

    return AgentRunner(
        transport,
        list(by_name),
        assemble,
        say,
        stopping,
        shared=shared,
        waiting=waiting,
        abilities=lambda name: by_name[name].abilities,
        clock=clock,
    )
