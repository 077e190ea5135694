"""What is made different in a program before it begins: where it kills itself, how it misbehaves.

The product knows nothing of this. A trap wraps a public method of it in a process that was forked
to be sacrificed; by it a ``kill -9`` comes at exactly one point of a round.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from fedjury.agents.agent_batch import AgentBatch
from fedjury.agents.agent_runner import AgentRunner
from fedjury.aggregator.service import Aggregator
from fedjury.aggregator.store import RunStore
from fedjury.protocol.messages import Model
from fedjury.round import machine
from fedjury.round.effects import PersistSums, Publish
from fedjury.round.state import State, Training, Voting, VotingOnGroups
from fedjury.secure.group import Group, Step

Method = Callable[..., Any]


def set_failpoints(failpoints: Iterable[tuple[str, float]]) -> None:
    """Set traps in this process: names of the table, each with its number."""
    for name, number in failpoints:
        TRAPS[name](number)


def wrap(owner: Any, name: str, around: Method) -> None:
    """Put a function of ours around one of theirs, which it is given before the arguments."""
    method = getattr(owner, name)
    setattr(owner, name, lambda *arguments: around(method, *arguments))


def before(owner: Any, name: str, wanted: Callable[..., bool]) -> None:
    """Die, as by ``kill -9``, before a call whose arguments are wanted."""

    def around(method: Method, *arguments: Any) -> Any:
        if wanted(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments)

    wrap(owner, name, around)


def after(owner: Any, name: str, wanted: Callable[..., bool]) -> None:
    """Die after a call; ``wanted`` is given what it returned and its arguments."""

    def around(method: Method, *arguments: Any) -> Any:
        given = method(*arguments)
        if wanted(given, *arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return given

    wrap(owner, name, around)


# ---------------------------------------------------------------- where the aggregator dies


def opening(number: float) -> None:
    """Die when the round is open and nobody has answered."""
    after(Aggregator, "take", lambda now, *_: _training(now, number))


def collecting(number: float) -> None:
    """Die when half of the round's updates are in."""

    def wanted(now: State, *_: object) -> bool:
        return _training(now, number) and 2 * len(now.updates) >= len(now.selected) > 0

    after(Aggregator, "take", wanted)


def aggregating(number: float) -> None:
    """Die when all updates are in and the candidate is about to be made."""
    before(machine, "aggregate", lambda state, *_: state.round == number)


def validating(number: float) -> None:
    """Die when the first vote is in."""

    def wanted(now: State, *_: object) -> bool:
        return now.round == number and len(now.votes) > 0

    after(Aggregator, "take", wanted)


def validating_groups(number: float) -> None:
    """Die when the first votes on groups are in."""

    def wanted(now: State, *_: object) -> bool:
        voting = isinstance(now.phase, VotingOnGroups) and len(now.phase.votes) > 0
        return voting and now.round == number

    after(Aggregator, "take", wanted)


def at_step(step: Step, phase: type = Training) -> Callable[[float], None]:
    """Make the trap that dies when half of a group has answered a step of secure aggregation."""

    def trap(number: float) -> None:
        def wanted(now: State, *_: object) -> bool:
            if not isinstance(now.phase, phase) or now.round != number:
                return False
            secure = getattr(now.phase, "secure", None)
            groups = secure.groups.values() if secure else ()
            return any(
                isinstance(group, Group)
                and group.step is step
                and 2 * len(group.answered) >= len(group.awaited)
                for group in groups
            )

        after(Aggregator, "take", wanted)

    return trap


def asking(number: float) -> None:
    """Die when it is on disk which sum is to be opened, and nobody has been asked."""

    def wanted(_: object, __: object, effect: Any, state: State) -> bool:
        return isinstance(effect, PersistSums) and state.round == number

    after(Aggregator, "carry_out", wanted)


def unrecorded(number: float) -> None:
    """Die when the accepted model is on disk, and the round's record is not."""
    after(RunStore, "save", lambda _, _store, _model, record, *__: record.round >= number)


def unpublished(number: float) -> None:
    """Die when all of the round is on disk and nobody has been told."""
    after(RunStore, "persist", lambda _, _store, record, *__: record.round == number)


def published(number: float) -> None:
    """Die when the version is published and the next round is not open."""

    def wanted(_: object, __: object, effect: Any, *___: object) -> bool:
        message = effect.message if isinstance(effect, Publish) else None
        return isinstance(message, Model) and message.version >= number

    after(Aggregator, "carry_out", wanted)


def gathering(_: float) -> None:
    """Die when all agents have joined and no round is open."""
    after(Aggregator, "gather", lambda *_: True)


def ending(_: float) -> None:
    """Die when the last round is over and everybody has been told."""
    before(Aggregator, "end", lambda *_: True)


def syncing(number: float) -> None:
    """Die at so many-th time that something is to be made durable, before it is."""
    counted = 0

    def wanted(_: int) -> bool:
        nonlocal counted
        counted += 1
        return counted == number

    before(os, "fsync", wanted)


def _training(now: State, number: float) -> bool:
    return isinstance(now.phase, Training) and now.round == number


# ---------------------------------------------------------------- how agents misbehave


def mute(number: float) -> None:
    """From this round on, train and never answer."""

    def send(method: Method, runner: Any, batch: Any) -> None:
        if batch.number < number:
            method(runner, batch)

    wrap(AgentRunner, "send_ready", send)


def slow(seconds: float) -> None:
    """Take so many seconds more to train a chunk."""

    def train(method: Method, batch: Any) -> Any:
        if trained := method(batch):
            time.sleep(seconds)
        return trained

    wrap(AgentBatch, "train_chunk", train)


TRAPS: dict[str, Callable[[float], None]] = {
    "opening": opening,
    "collecting": collecting,
    "aggregating": aggregating,
    "validating": validating,
    **{f"secure-{step.name.lower()}": at_step(step) for step in Step if step is not Step.SUM},
    "secure-asking": asking,
    "secure-counts": at_step(Step.UNMASK, Voting),
    "validating_groups": validating_groups,
    "unrecorded": unrecorded,
    "unpublished": unpublished,
    "published": published,
    "gathering": gathering,
    "ending": ending,
    "syncing": syncing,
    "mute": mute,
    "slow": slow,
}
