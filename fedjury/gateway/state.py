"""What the gateway knows of a run, and who may post: pure, from messages and posts alone.

The gateway stands for as many agents as it has slots. Each is a real agent on the broker; who
posts over HTTP speaks through one of them, and a client with a name keeps its slot until it has
been silent for a minute and another client needs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedjury.gateway.refusal import InvalidReason, InvalidRequest
from fedjury.protocol.messages import (
    Manifest,
    Message,
    Model,
    Phase,
    Reason,
    Round,
    RoundLog,
    Update,
    Vector,
)
from fedjury.protocol.record import RoundRecord

MAX_ROUNDS = 1_000_000
"""Rounds of which the accuracy is kept."""

MAX_TENSORS = 10_000

LEASE = 60.0
"""Seconds after a named client's last update in which no other client may have its slot."""


@dataclass(frozen=True, slots=True)
class ReceivedUpdate:
    """An update as it came over HTTP, its content checked.

    ``client``: its name, or empty. ``version``: of the global model that it was trained from, or
    None for that of the round which is open.
    """

    client: str
    version: int | None
    samples: int
    delta: Vector


@dataclass(frozen=True, slots=True)
class Lease:
    """A named client's slot, and when (s, on the caller's clock) it sent an update last."""

    slot: str
    since: float


@dataclass(frozen=True, slots=True)
class GatewayState:
    """A run as far as the gateway knows it; immutable, so that any thread may look at it."""

    slots: tuple[str, ...]
    """The names of our agents on the broker."""
    manifest: Manifest | None = None
    model: Model | None = None
    round: Round | None = None
    history: tuple[float | None, ...] = ()
    """Accuracy after each round, from that of version 0 on; None where it is not known."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What else was measured of the global model, by name: the first few."""
    invalid: Mapping[str, int] = field(default_factory=dict)
    """What the aggregator refused in finished rounds, whoever sent it: reason -> count."""
    bound: Mapping[str, Lease] = field(default_factory=dict)
    """A client's name -> its slot."""
    turn: tuple[int, int] = (-1, -1)
    """Round and version for which the slots have sent what is in ``sent``."""
    sent: Mapping[str, Update] = field(default_factory=dict)
    heard: tuple[int, int] = (-1, -1)
    """Round and attempt that were announced last, whatever was published after that."""
    missed: tuple[int, int] = (-1, -1)
    """Round and attempt that began before our agents were there, so that none of them is called."""
    generation: int = 0
    """How often a run has begun again since we listen."""
    connections: int = 0
    """How many of our connections to the broker are up."""


def names_of(prefix: str, count: int) -> tuple[str, ...]:
    """Name the slots: ``http-000``, ``http-001``, ..."""
    return tuple(f"{prefix}-{number:03d}" for number in range(count))


# ---------------------------------------------------------------- what the run says


def on_message(
    state: GatewayState, message: Message, *, present: bool = True
) -> tuple[GatewayState, list[Update]]:
    """Take a message; returns the view as it is then, and updates that have to be sent again.

    ``present``: whether all our agents had joined when it came.
    """
    match message:
        case Manifest():
            known = message if usable(message) else None
            fits = known and state.model and len(state.model.weights) == known.parameters
            return replace(
                state, manifest=known, model=state.model if fits else None, round=None
            ), []
        case Model():
            fits = state.manifest is None or len(message.weights) == state.manifest.parameters
            return (_modelled(state, message) if fits else state), []
        case Round():
            return _announced(state, message, present=present)
        case RoundLog(RoundRecord() as record):
            return _recorded(state, record), []
        case _:
            return state, []


def usable(manifest: Manifest) -> bool:
    """Say whether the tensors have different names and are as many values as it says."""
    sizes = [math.prod(shape) for _, shape in manifest.tensors]
    names = {name for name, _ in manifest.tensors}
    return len(names) == len(sizes) <= MAX_TENSORS and sum(sizes) == manifest.parameters


def _modelled(state: GatewayState, model: Model) -> GatewayState:
    """Take the global model; what was trained from another of this version is not sent again."""
    before = state.model
    other = before is None or (
        before.version == model.version
        and not np.array_equal(before.weights, model.weights, equal_nan=True)
    )
    return replace(state, model=model, sent={} if other else state.sent)


def _announced(
    state: GatewayState, now: Round, *, present: bool
) -> tuple[GatewayState, list[Update]]:
    """Note where the round stands; what was sent is sent again where it is collected again."""
    attempt = (now.round, now.attempt)
    before = (state.round.round, state.round.attempt) if state.round else None
    if not present and attempt != state.heard:
        state = replace(state, missed=attempt)
    if (now.round, now.version) != state.turn:
        state = replace(state, turn=(now.round, now.version), sent={})
    state = replace(state, round=now, heard=attempt)
    if now.phase is not Phase.TRAIN or attempt in (before, state.missed):
        return state, []
    called = _called(state, now)
    return state, [update for slot, update in state.sent.items() if slot in called]


def _recorded(state: GatewayState, record: RoundRecord) -> GatewayState:
    """Keep what was measured after a round; a record of round 0 says that a run begins."""
    number, quality = record.round, record.model.short()
    accuracy, metrics = quality.accuracy, quality.metrics
    # From a stranger, or nothing that we tell.
    if number > MAX_ROUNDS or (accuracy is None and not metrics):
        return state
    history = state.history
    if number == 0 and len(history) > 1:
        return replace(
            state,
            history=(accuracy,),
            metrics=metrics,
            invalid={},
            bound={},
            sent={},
            generation=state.generation + 1,
        )
    if number >= len(history):
        missing = (None,) * (number - len(history))
        refused = _added(state.invalid, record.traffic.invalid_messages)
        history = (*history, *missing, accuracy)
        return replace(state, history=history, metrics=metrics, invalid=refused)
    return replace(state, history=(*history[:number], accuracy, *history[number + 1 :]))


def _added(counts: Mapping[str, int], more: Mapping[str, int]) -> Mapping[str, int]:
    """Add the counts of a record."""
    return {key: counts.get(key, 0) + more.get(key, 0) for key in {*counts, *more}}


# ---------------------------------------------------------------- who may post


def lacking(state: GatewayState) -> InvalidRequest | None:
    """Say what is missing before anything can be posted, if anything is."""
    if not state.connections:
        return InvalidRequest(
            InvalidReason.NO_BROKER, "the connection to the broker is down; it is tried again"
        )
    if state.manifest is None or state.model is None:
        return InvalidRequest(
            InvalidReason.NO_RUN, "no aggregator has published this run's manifest and model yet"
        )
    return None


def post(state: GatewayState, posted: ReceivedUpdate, now: float) -> tuple[GatewayState, Update]:
    """Let an update in; returns the view as it is then, and what has to be sent.

    ``now``: the time (s), on a clock that never goes back.

    Raises
    ------
    Refused
        If the round does not collect, the version is another, or there is no slot for it.
    """
    if why := lacking(state):
        raise why
    round_ = _collecting(state)
    if posted.version not in (None, round_.version):
        raise InvalidRequest(
            Reason.WRONG_VERSION,
            f"trained from version {posted.version}, round {round_.round} trains from "
            f"{round_.version}",
        )
    if (round_.round, round_.attempt) == state.missed:
        raise InvalidRequest(
            Reason.NOT_SELECTED,
            f"round {round_.round} began before the gateway joined; post in the next",
        )
    slot = _slot(state, posted.client, round_, now)
    update = Update(slot, round_.round, round_.version, posted.samples, posted.delta)
    bound = {name: lease for name, lease in state.bound.items() if lease.slot != slot}
    if posted.client:
        bound[posted.client] = Lease(slot, now)
    return replace(state, bound=bound, sent={**state.sent, slot: update}), update


def _collecting(state: GatewayState) -> Round:
    """Return the round if it collects updates."""
    now = state.round
    if now is None:
        raise InvalidRequest(
            Reason.WRONG_PHASE, "no round is open: the aggregator waits for agents"
        )
    if now.phase is Phase.TRAIN:
        return now
    content = {
        Phase.VALIDATE: "is being voted on",
        Phase.VALIDATE_GROUPS: "is being voted on, group by group",
        Phase.JUDGE_AND_TRAIN: "asks for votes too (piggy-back), which the gateway cannot give",
        Phase.DONE: "was the last: the run is done",
    }
    raise InvalidRequest(Reason.WRONG_PHASE, f"round {now.round} {content[now.phase]}")


def _called(state: GatewayState, now: Round) -> frozenset[str]:
    """Return those of our agents who are called."""
    return frozenset(now.trains.among(state.slots))


def _slot(state: GatewayState, client: str, round_: Round, now: float) -> str:
    """Find the slot of a client: its own, one of nobody's, or that of a client which is gone."""
    called = _called(state, round_)
    if own := state.bound.get(client) if client else None:
        if own.slot not in called:
            raise InvalidRequest(
                Reason.NOT_SELECTED, f"{own.slot} is not selected in round {round_.round}"
            )
        if own.slot in state.sent:
            raise InvalidRequest(
                Reason.DUPLICATE, f"{own.slot} has already answered in round {round_.round}"
            )
        return own.slot
    leases = {lease.slot: lease.since for lease in state.bound.values()}
    gone = sorted((since, slot) for slot, since in leases.items() if now - since > LEASE)
    free = [slot for slot in state.slots if slot not in leases] + [slot for _, slot in gone]
    if not free:
        raise InvalidRequest(
            InvalidReason.NO_SLOT,
            f"all {len(leases)} slots are reserved for clients with other names, which "
            "posted less than "
            f"{LEASE:.0f} s ago; a slot comes free once its client is silent for so long",
        )
    for slot in free:
        if slot in called and slot not in state.sent:
            return slot
    raise InvalidRequest(
        InvalidReason.NO_SLOT, f"no free slot is left in round {round_.round}; post in the next"
    )
