"""One good message of every kind, for a model of four parameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from fedjury.protocol.logs import InvalidMessages, RunHistory
from fedjury.protocol.messages import (
    AggregatorPresence,
    AttackVector,
    Candidate,
    CellLink,
    CellMember,
    ColluderUpdate,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    Heartbeat,
    History,
    HistoryLog,
    InvalidLog,
    Manifest,
    Manifest1,
    Message,
    Model,
    Phase,
    Presence,
    Presence1,
    Round,
    RoundLog,
    Update,
    Vote,
)
from fedjury.protocol.record import RoundRecord, Timing, Traffic
from fedjury.protocol.secure import (
    BOX,
    SHARE,
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)

PARAMETERS = 4
VECTOR = np.array([0.5, -1, 2, 0], dtype=np.float32)
EVIDENCE = np.array([0.5, -2, 1], dtype="<f4").tobytes()
GROUP_VOTES = GroupVotes.of(
    {
        group: Vote("ann", 7, 1, poisoned=group > 0, score=0.5 + group, threshold=1.25, samples=4)
        for group in range(3)
    }
)
MANIFEST = Manifest(
    model="mlp",
    tensors=(("0.weight", (2, 1)), ("0.bias", (2,))),
    parameters=PARAMETERS,
    classes=2,
    input_shape=(1, 1, 1),
    epochs=1,
    batch_size=4,
    learning_rate=0.5,
    momentum=0.5,
    codec="int8",
    history_codec="int7+zstd",
    max_bytes=1000,
    judge="lof",
    judge_options={"reading": "B", "false_alarm": 0.1},
    look_back=2,
    minimum_history=3,
)

MESSAGES: tuple[Message, ...] = (
    MANIFEST,
    Round(7, 1, Phase.VALIDATE, 3, ("ann", "bob"), ("eve",), 2.5),
    Model(3, VECTOR),
    History(3, VECTOR),
    Candidate(7, 1, 3, VECTOR),
    Update("ann", 7, 3, 4, VECTOR, 1.5, 1.25, EVIDENCE, 300),
    Vote(
        "ann",
        7,
        1,
        poisoned=True,
        score=1.5,
        threshold=1.25,
        samples=4,
        evidence=EVIDENCE,
        size=300,
    ),
    Decline("ann", 7, 1),
    ColluderUpdate("ann", 7, 3, VECTOR),
    AttackVector(7, 3, VECTOR, VECTOR),
    Presence("ann", online=True, since=1.5),
    AggregatorPresence(online=True, since=1.5),
    Heartbeat(1.5),
    RoundLog(RoundRecord(7, judged=7, traffic=Traffic({"duplicate": 1}))),
    InvalidLog(InvalidMessages(7, {"duplicate": 1}, "ann", "duplicate")),
    HistoryLog(RunHistory((RoundRecord(7, judged=7, timing=Timing(updates_per_second=1.5)),))),
    CellLink(3, online=True),
    CellMember(3, "ann", online=True, since=1.5),
    Manifest1(2),
    Presence1(online=True, since=1.5),
    GroupCandidate(1, 7, 1, 3, VECTOR),
    GroupHistory(3, VECTOR),
    GROUP_VOTES,
    Round(7, 1, Phase.VALIDATE_GROUPS, 3, ("ann", "bob"), ("eve",), 2.5, groups=3, each=2),
    SecureKeys("ann", 7, 1, bytes(range(32)), bytes(range(1, 33)), 4),
    SecurePeers(
        "ann",
        7,
        1,
        group=2,
        place=0,
        members=3,
        roster=bytes(32),
        names="bob eve",
        places=bytes([1, 0, 0, 0, 2, 0, 0, 0]),
        mask_keys=bytes(64),
        box_keys=bytes(64),
        threshold=2,
        clip=0.5,
        bits=16,
        weight=4,
        largest=4,
    ),
    SecureShares("ann", 7, 1, bytes(32), bytes(2 * BOX)),
    SecureInbox("ann", 7, 1, bytes(2 * BOX)),
    MaskedUpdate("ann", 7, 1, 3, bytes(12)),
    UnmaskRequest("ann", 7, 1, bytes([7])),
    UnmaskShares("ann", 7, 1, bytes(2 * SHARE)),
)


def parts(message: Message) -> tuple[Any, ...]:
    """Return what a message is made of, field by field."""
    return tuple(getattr(message, field.name) for field in fields(message))
