"""What each message holds: which keys it needs, and what stands under those that we know."""

from __future__ import annotations

from dataclasses import MISSING, fields

from fedjury.protocol import checks
from fedjury.protocol.cells import (
    MAX_CELL_AGENTS,
    MAX_CELLS,
    CellPresence,
    CellWorker,
    GroupSum,
    GroupSumRequest,
    PartialSum,
    SumRequest,
    Tally,
)
from fedjury.protocol.checks import Check
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
    Manifest,
    Manifest1,
    Message,
    Metrics,
    Model,
    Presence,
    Presence1,
    Round,
    Update,
    Vote,
)
from fedjury.protocol.secure import (
    BOX,
    KEY,
    MAX_MEMBERS,
    MAX_NEIGHBOURS,
    SHARE,
    MaskedUpdate,
    SecureInbox,
    SecureKeys,
    SecurePeers,
    SecureShares,
    UnmaskRequest,
    UnmaskShares,
)
from fedjury.protocol.topics import CHANNELS

PAYLOAD = {
    kind: [message.name for message in fields(kind) if f"{{{message.name}}}" not in channel.topic]
    for kind, channel in CHANNELS.items()
}
"""The fields of a message that its topic does not say."""


_MODEL: dict[str, Check] = {"version": checks.count, "weights": checks.vector}

_SECURE: dict[str, Check] = {
    "agent": checks.text,
    "round": checks.count,
    "attempt": checks.count,
}
_KEY = checks.piece(KEY, KEY)
_BOXES = checks.piece(BOX, BOX * MAX_NEIGHBOURS, BOX)

_CELL: dict[str, Check] = {"cell": checks.count, "life": checks.life}
_ATTEMPT: dict[str, Check] = {"round": checks.count, "attempt": checks.count}
_GROUP: dict[str, Check] = _ATTEMPT | {"group": checks.count, "session": _KEY}

SCHEMA: dict[type[Message], dict[str, Check]] = {
    Manifest: {
        "model": checks.text,
        "tensors": checks.tensors,
        "parameters": checks.positive,
        "classes": checks.count,
        "input_shape": checks.dimensions,
        "fixed": checks.words,
        "epochs": checks.positive,
        "batch_size": checks.positive,
        "learning_rate": checks.number,
        "momentum": checks.momentum,
        "codec": checks.text,
        "history_codec": checks.text,
        "max_bytes": checks.count,
        "judge": checks.text,
        "judge_options": checks.options,
        "look_back": checks.look_back,
        "minimum_history": checks.count,
        "protocol": checks.count,
        "loss": checks.text,
        "loss_options": checks.options,
        "optimizer": checks.text,
        "optimizer_options": checks.options,
        "counts": checks.truth,
        "group_judge": checks.text,
        "secure": checks.options,
        "cells": checks.options,
    },
    Manifest1: {"protocol": checks.count},
    Round: {
        "round": checks.count,
        "attempt": checks.count,
        "phase": checks.phase,
        "version": checks.count,
        "contributors": checks.contributors,
        "validators": checks.names,
        "seconds": checks.number,
        "evaluators": checks.contributors,
        "groups": checks.how_many_groups,
        "each": checks.count,
        "calls": checks.calls,
    },
    Model: _MODEL,
    History: _MODEL,
    Candidate: {
        "round": checks.count,
        "attempt": checks.count,
        "base": checks.count,
        "weights": checks.vector,
    },
    GroupCandidate: {
        "group": checks.count,
        "round": checks.count,
        "attempt": checks.count,
        "base": checks.count,
        "weights": checks.vector,
    },
    GroupHistory: _MODEL,
    Update: {
        "agent": checks.text,
        "round": checks.count,
        "version": checks.count,
        "samples": checks.count,
        "delta": checks.vector,
        "score": checks.number,
        "threshold": checks.number,
        "evidence": checks.evidence,
        "size": checks.count,
        "metrics": checks.values,
        "changed": checks.count,
        "changed_errors": checks.count,
        "counts": checks.counts,
    },
    Vote: {
        "agent": checks.text,
        "round": checks.count,
        "attempt": checks.count,
        "poisoned": checks.truth,
        "score": checks.number,
        "threshold": checks.number,
        "samples": checks.count,
        "evidence": checks.evidence,
        "size": checks.count,
        "changed": checks.count,
        "changed_errors": checks.count,
        "counts": checks.counts,
    },
    GroupVotes: {
        "agent": checks.text,
        "round": checks.count,
        "attempt": checks.count,
        "groups": checks.groups,
        "poisoned": checks.verdicts,
        "scores": checks.scores,
        "thresholds": checks.scores,
        "samples": checks.count,
        "size": checks.count,
        "cpu": checks.count,
    },
    Decline: {
        "agent": checks.text,
        "round": checks.count,
        "attempt": checks.count,
        "why": checks.words,
    },
    Metrics: {
        "agent": checks.text,
        "round": checks.count,
        "attempt": checks.count,
        "samples": checks.count,
        "values": checks.values,
    },
    SecureKeys: _SECURE | {"mask_key": _KEY, "box_key": _KEY, "samples": checks.count},
    SecurePeers: _SECURE
    | {
        "group": checks.count,
        "place": checks.count,
        "members": checks.positive,
        "roster": _KEY,
        "names": checks.neighbours,
        "places": checks.piece(4, 4 * MAX_NEIGHBOURS, 4),
        "mask_keys": checks.piece(KEY, KEY * MAX_NEIGHBOURS, KEY),
        "box_keys": checks.piece(KEY, KEY * MAX_NEIGHBOURS, KEY),
        "threshold": checks.positive,
        "clip": checks.number,
        "bits": checks.positive,
        "weight": checks.positive,
        "largest": checks.positive,
    },
    SecureShares: _SECURE | {"commitment": _KEY, "boxes": _BOXES},
    SecureInbox: _SECURE | {"boxes": _BOXES},
    MaskedUpdate: _SECURE | {"version": checks.count, "data": checks.masked},
    UnmaskRequest: _SECURE | {"survivors": checks.piece(1, MAX_MEMBERS // 8)},
    UnmaskShares: _SECURE | {"shares": checks.piece(SHARE, SHARE * MAX_NEIGHBOURS, SHARE)},
    ColluderUpdate: {
        "agent": checks.text,
        "round": checks.count,
        "version": checks.count,
        "delta": checks.vector,
    },
    AttackVector: {
        "round": checks.count,
        "version": checks.count,
        "centre": checks.vector,
        "spread": checks.spread,
    },
    CellWorker: _CELL | {"online": checks.truth},
    CellPresence: _CELL
    | {
        "whole": checks.truth,
        "came": checks.some_names,
        "abilities": checks.piece(0, MAX_CELL_AGENTS),
        "left": checks.some_names,
    },
    Tally: _CELL
    | _ATTEMPT
    | {
        "first": checks.count,
        "names": checks.some_names,
        "samples": checks.piece(0, 4 * MAX_CELL_AGENTS, 4),
        "norms": checks.piece(0, 8 * MAX_CELL_AGENTS, 8),
        "refused": checks.refused,
        "invalid": checks.some_names,
    },
    SumRequest: _ATTEMPT
    | {
        "number": checks.count,
        "cells": checks.piece(4, 4 * MAX_CELLS, 4),
        "taken": checks.piece(4, 4 * MAX_CELLS, 4),
        "without": checks.piece(0, 8 * MAX_CELL_AGENTS, 8),
        "kind": checks.text,
        "bound": checks.number,
        "bits": checks.whole(1, 62),
        "largest": checks.count,
        "centre": checks.vector,
    },
    PartialSum: _CELL
    | _ATTEMPT
    | {"number": checks.count, "width": checks.width, "data": checks.summed},
    GroupSumRequest: {"cell": checks.count}
    | _GROUP
    | {
        "version": checks.count,
        "length": checks.positive,
        "bits": checks.whole(1, 32),
        "names": checks.some_names,
        "survivors": checks.piece(1, MAX_CELL_AGENTS // 8),
    },
    GroupSum: _CELL
    | _GROUP
    | {"came": checks.piece(1, MAX_CELL_AGENTS // 8), "data": checks.masked},
    Presence: {
        "agent": checks.text,
        "online": checks.truth,
        "since": checks.number,
        "votes": checks.truth,
        "evaluates": checks.truth,
    },
    AggregatorPresence: {"online": checks.truth, "since": checks.moment, "partition": checks.words},
    Heartbeat: {"since": checks.moment},
    CellLink: {"cell": checks.count, "online": checks.truth},
    CellMember: {
        "cell": checks.count,
        "agent": checks.text,
        "online": checks.truth,
        "since": checks.number,
    },
    Presence1: {"online": checks.truth, "since": checks.number, "deals": checks.words},
}
"""The keys that we know, and what each must be."""

CHECKS = {
    kind: [(key, check) for key, check in checks.items() if key in PAYLOAD[kind]]
    for kind, checks in SCHEMA.items()
}
"""The same of the keys in the payload: a thousand messages a round are read."""

REQUIRED: dict[type[Message], frozenset[str]] = {
    kind: frozenset(
        one.name
        for one in fields(kind)
        if one.name in PAYLOAD[kind]
        and (one.name == "protocol" or (one.default is MISSING is one.default_factory))
    )
    for kind in SCHEMA
}
"""The keys without which a message is none; the others have a default."""

VECTORS = frozenset(kind for kind, entries in SCHEMA.items() if checks.vector in entries.values())
"""What holds a vector of the model's length, and little else."""
