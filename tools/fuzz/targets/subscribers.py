"""What an agent and a gateway make of what they hear: ``[kind, length, payload...]`` in turn.

The length has two bytes.

Without access rules anybody may speak as the aggregator. Neither may fall over, or remember more
than it says it does.
"""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import numpy as np

from fedjury.agents.agent import Agent, Assignment, Fetch, on_message
from fedjury.gateway import state
from fedjury.gateway.refusal import InvalidRequest
from fedjury.gateway.state import GatewayState, ReceivedUpdate
from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.messages import (
    BadMessage,
    Candidate,
    History,
    Manifest,
    Message,
    Model,
    Phase,
    Round,
    RoundLog,
)
from fedjury.protocol.record import Quality, RoundRecord, Traffic
from fedjury.protocol.topics import USUAL
from tools.fuzz.examples import MANIFEST, MESSAGES, PARAMETERS, VECTOR
from tools.fuzz.target import Target, tried
from tools.fuzz.targets.codec import TOPICS

LOOK_BACK = 3
PRESENT = 200
"""Kinds from here on are said again from 0, to a gateway whose agents have not all joined."""
NAMES = frozenset(("ann", "bob"))
POSTED = ReceivedUpdate("carl", 3, 4, VECTOR)


def one(data: bytes) -> None:
    """Let an agent, two who share an ear, and a gateway hear what decodes."""
    subscribers = [Agent("ann", LOOK_BACK), Agent(":ear", LOOK_BACK, shares=NAMES, remember=False)]
    view = GatewayState(("ann", "http-000"), connections=1)
    limits, turns = Limits(size=2000), io.BytesIO(data)
    while len(head := turns.read(3)) == 3:
        first, payload = head[0], turns.read(int.from_bytes(head[1:]))
        kind = first % len(TOPICS)
        message = tried(lambda: decode(TOPICS[kind], payload, limits), BadMessage)  # noqa: B023
        if isinstance(message, BadMessage):
            continue
        if isinstance(message, Manifest):
            limits = limits._replace(parameters=message.parameters)
        for number, subscriber in enumerate(subscribers):
            subscribers[number], task = on_message(subscriber, message)
            check(subscribers[number], task)
        view, updates = state.on_message(view, message, present=first < PRESENT)
        assert len(updates) <= len(view.slots)
        told = tried(lambda: state.post(view, POSTED, 0.0), InvalidRequest)  # noqa: B023
        if not isinstance(told, InvalidRequest):
            view, update = told
            assert update.agent in view.slots
        assert len(view.sent) <= len(view.slots)


def check(agent: Agent, task: Assignment | None) -> None:
    """Check what an agent is to do next."""
    if task is None:
        return
    assert agent.round is not None
    now = (agent.round.round, agent.round.attempt)
    assert isinstance(task, Fetch) or (task.round, task.attempt) == now
    versions = getattr(task, "versions", ())
    assert len(versions) <= LOOK_BACK + 1
    assert all(0 <= version <= agent.round.version for version in versions)


def record_of(number: int) -> RoundRecord:
    """Return the record of a round in which something was refused."""
    return RoundRecord(number, model=Quality(0.5), traffic=Traffic({"duplicate": number}))


def seeds() -> list[bytes]:
    """Return rounds of every kind, and a run that ends and begins again."""
    opened = Round(7, 1, Phase.TRAIN, 3, "all", ("ann",), 2.5)
    models = [Model(version, VECTOR) for version in (2, 3)]
    past = [History(version, VECTOR) for version in range(4)]
    small = Manifest(
        **{
            **asdict(MANIFEST),
            "tensors": (("b", (PARAMETERS,)),),
            "judge_options": {},
            "judge": "",
            "model": "",
        }
    )
    logs = [RoundLog(record_of(n)) for n in (0, 1, 3)]
    runs: list[list[Message]] = [
        [*models, opened, replace(opened, attempt=2), models[1], replace(opened, phase=Phase.DONE)],
        [replace(opened, phase=Phase.VALIDATE), *past, Candidate(7, 1, 3, VECTOR), *models],
        [replace(opened, phase=Phase.JUDGE_AND_TRAIN), Candidate(7, 1, 3, VECTOR), *models, *past],
        [small, *models, opened, *logs, small, opened],
        [*logs, logs[0]],
        [Model(3, VECTOR), Model(3, np.ones(PARAMETERS, np.float32)), opened],
    ]
    places = {topic.partition("/history/")[0]: number for number, topic in enumerate(TOPICS)}
    result = []
    for run in runs:
        text = b""
        for message in run:
            payload = encode(message)
            kind = places[USUAL.of("run", message).partition("/history/")[0]]
            text += bytes([kind]) + len(payload).to_bytes(2) + payload
        result.append(text)
    return [*result, b"".join(result), *(bytes([n, 0, 0]) for n in range(len(MESSAGES)))]


TARGET = Target(one, seeds, longest=2048)
