"""What each message holds: which keys it needs, and what stands under those that we know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import numpy as np

from fedjury.protocol.compression import Packed, decompress
from fedjury.protocol.counts import unpacked
from fedjury.protocol.messages import (
    MAX_COUNT,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    ColluderUpdate,
    Decline,
    GroupCandidate,
    GroupHistory,
    GroupVotes,
    History,
    Manifest,
    Manifest1,
    Message,
    Metrics,
    Model,
    Phase,
    Presence,
    Presence1,
    Reason,
    Round,
    Update,
    Vector,
    Vote,
)
from fedjury.protocol.topics import CHANNELS, NAME

MAX_NAMES = 1_000_000
MAX_LOOK_BACK = 10_000
MAX_EVIDENCE = 101
"""Numbers in a vote's evidence."""

MAX_METRICS = 32
"""Values that one agent measures."""

MAX_METRIC = 64
"""Letters of the name of one."""

MAX_GROUPS = 10_000
"""Groups of one round that a vote is about."""

MAX_OPTIONS = 16
"""Of a judge, a loss or an optimizer."""


class Limits(NamedTuple):
    """What a receiver accepts: ``parameters`` d (None: any), payload ``size``, finite or not.

    ``counts``: error counts of a vote at the most; with 0 they are not read at all.
    """

    parameters: int | None = None
    size: int = 32_000_000
    finite: bool = True
    counts: int = 0


PAYLOAD = {
    kind: [message.name for message in fields(kind) if f"{{{message.name}}}" not in channel.topic]
    for kind, channel in CHANNELS.items()
}
"""The fields of a message that its topic does not say."""


# The checks: each takes the key, what came, and the limits, and returns the value or raises.

Check = Callable[[str, Any, Limits], Any]


def _typed(key: str, value: Any, kind: type) -> None:
    if type(value) is not kind:  # a bool is no int here
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not {kind.__name__}")


def _range(key: str, right: bool) -> None:
    if not right:
        raise BadMessage(Reason.OUT_OF_RANGE, key)


def _whole(least: int, most: int) -> Callable[[str, Any, Limits], int]:
    """Make the check of a whole number."""

    def check(key: str, value: Any, _: Limits) -> int:
        _typed(key, value, int)
        _range(key, least <= value <= most)
        return int(value)

    return check


count, _positive, _look_back = _whole(0, MAX_COUNT), _whole(1, MAX_COUNT), _whole(0, MAX_LOOK_BACK)
_how_many_groups = _whole(0, MAX_GROUPS)


def _momentum(key: str, value: Any, limits: Limits) -> float:
    _range(key, 0 <= _number(key, value, limits) < 1)
    return float(value)


def _options(key: str, value: Any, _: Limits) -> dict[str, Any]:
    _typed(key, value, dict)
    _range(key, len(value) <= MAX_OPTIONS)
    for name, item in value.items():
        _range(key, len(name) <= 200 and type(item) in (str, int, float, bool))
        _range(key, len(item) <= 200 if isinstance(item, str) else -1e308 <= item <= 1e308)
    return dict(value)


def _number(key: str, value: Any, _: Limits) -> float:
    if type(value) not in (int, float):
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not a number")
    _range(key, -1e308 <= value <= 1e308)
    return float(value)


def _values(key: str, value: Any, limits: Limits) -> dict[str, float]:
    _typed(key, value, dict)
    _range(key, len(value) <= MAX_METRICS)
    for name in value:
        _typed(f"a name in {key}", name, str)
        _range(key, 0 < len(name) <= MAX_METRIC and name.isprintable())
    return {name: _number(key, item, limits) for name, item in value.items()}


def _evidence(key: str, value: Any, _: Limits) -> bytes:
    _typed(key, value, bytes)
    _range(key, len(value) % 4 == 0 and len(value) <= 4 * MAX_EVIDENCE)
    if not np.isfinite(np.frombuffer(value, "<f4")).all():
        raise BadMessage(Reason.NOT_FINITE, key)
    return bytes(value)


def _counts(key: str, value: Any, limits: Limits) -> bytes:
    _typed(key, value, bytes)
    if not limits.counts:
        return b""
    _range(key, len(value) <= 1 + 4 * limits.counts)
    try:
        numbers = len(unpacked(value))
    except ValueError as why:
        raise BadMessage(Reason.OUT_OF_RANGE, f"{key}: {why}") from why
    if numbers > limits.counts:
        raise BadMessage(Reason.WRONG_LENGTH, f"{numbers:,} {key}, at most {limits.counts:,}")
    return bytes(value)


def _groups(key: str, value: Any, _: Limits) -> bytes:
    """Take the numbers of groups: some, ascending and so without repeats."""
    _typed(key, value, bytes)
    _range(key, len(value) % 4 == 0 and 0 < len(value) <= 4 * MAX_GROUPS)
    _range(key, bool((np.diff(np.frombuffer(value, "<u4").astype(np.int64)) > 0).all()))
    return bytes(value)


def _verdicts(key: str, value: Any, _: Limits) -> bytes:
    _typed(key, value, bytes)
    _range(key, len(value) <= MAX_GROUPS and not value.strip(b"\0\1"))
    return bytes(value)


def _scores(key: str, value: Any, _: Limits) -> bytes:
    _typed(key, value, bytes)
    _range(key, len(value) % 4 == 0 and len(value) <= 4 * MAX_GROUPS)
    if not np.isfinite(np.frombuffer(value, "<f4")).all():
        raise BadMessage(Reason.NOT_FINITE, key)
    return bytes(value)


def _truth(key: str, value: Any, _: Limits) -> bool:
    _typed(key, value, bool)
    return bool(value)


def _text(key: str, value: Any, _: Limits) -> str:
    _typed(key, value, str)
    _range(key, len(value) <= 200)
    return str(value)


def _words(key: str, value: Any, limits: Limits) -> str:
    """Check a text that is shown to people: nothing in it moves a cursor or turns letters."""
    text = _text(key, value, limits)
    _range(key, text.isprintable())
    return text


def _phase(key: str, value: Any, _: Limits) -> Phase:
    _typed(key, value, str)
    if value not in tuple(Phase):
        raise BadMessage(Reason.OUT_OF_RANGE, f"this agent does not know the phase {value[:40]!r}")
    return Phase(value)


def _names(key: str, value: Any, _: Limits) -> tuple[str, ...]:
    _typed(key, value, list)
    _range(key, len(value) <= MAX_NAMES)
    _range(key, all(isinstance(name, str) and NAME.fullmatch(name) for name in value))
    return tuple(value)


def _contributors(key: str, value: Any, limits: Limits) -> str | tuple[str, ...]:
    return "all" if value == "all" else _names(key, value, limits)


def _shape(key: str, value: Any, limits: Limits) -> tuple[int, ...]:
    _typed(key, value, list)
    _range(key, len(value) <= 8)
    return tuple(count(key, item, limits) for item in value)


def _tensors(key: str, value: Any, limits: Limits) -> tuple[tuple[str, tuple[int, ...]], ...]:
    _typed(key, value, list)
    _range(key, all(isinstance(item, list) and len(item) == 2 for item in value))
    return tuple((_text(key, name, limits), _shape(key, shape, limits)) for name, shape in value)


def _vector(key: str, value: Any, limits: Limits) -> Vector:
    _typed(key, value, dict)
    if not value.keys() >= {"codec", "n", "data"}:
        raise BadMessage(Reason.MISSING_KEY, f"{key} needs codec, n and data")
    _typed("codec", value["codec"], str)
    _typed("data", value["data"], bytes)
    packed = Packed(value["codec"], count("n", value["n"], limits), value["data"])
    if limits.parameters is not None and packed.n != limits.parameters:
        raise BadMessage(Reason.WRONG_LENGTH, f"{packed.n:,} parameters, not {limits.parameters:,}")
    # Before the manifest anybody may say how much is to be inflated; models are never compressed.
    if 4 * packed.n > limits.size * (1 if limits.parameters is None else 100):
        raise BadMessage(Reason.TOO_LARGE, f"{packed.n:,} parameters announced")
    vector = decompress(packed)
    if limits.finite and not _finite(vector):
        raise BadMessage(Reason.NOT_FINITE, key)
    return vector


def _spread(key: str, value: Any, limits: Limits) -> Vector:
    """Take a vector of the model's length, or one without entries."""
    nothing = isinstance(value, dict) and value.get("n") == 0
    return _vector(key, value, limits._replace(parameters=0) if nothing else limits)


def _finite(vector: Vector) -> bool:
    """Say whether all is finite; a sum of squares that is tells so at a third of the cost."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(vector, vector)) or np.isfinite(vector).all())


_MODEL: dict[str, Check] = {"version": count, "weights": _vector}

SCHEMA: dict[type[Message], dict[str, Check]] = {
    Manifest: {
        "model": _text,
        "tensors": _tensors,
        "parameters": _positive,
        "classes": count,
        "input_shape": _shape,
        "fixed": _words,
        "epochs": _positive,
        "batch_size": _positive,
        "learning_rate": _number,
        "momentum": _momentum,
        "codec": _text,
        "history_codec": _text,
        "max_bytes": count,
        "judge": _text,
        "judge_options": _options,
        "look_back": _look_back,
        "minimum_history": count,
        "protocol": count,
        "loss": _text,
        "loss_options": _options,
        "optimizer": _text,
        "optimizer_options": _options,
        "counts": _truth,
        "group_judge": _text,
    },
    Manifest1: {"protocol": count},
    Round: {
        "round": count,
        "attempt": count,
        "phase": _phase,
        "version": count,
        "contributors": _contributors,
        "validators": _names,
        "seconds": _number,
        "evaluators": _contributors,
        "groups": _how_many_groups,
        "each": count,
    },
    Model: _MODEL,
    History: _MODEL,
    Candidate: {"round": count, "attempt": count, "base": count, "weights": _vector},
    GroupCandidate: {
        "group": count,
        "round": count,
        "attempt": count,
        "base": count,
        "weights": _vector,
    },
    GroupHistory: _MODEL,
    Update: {
        "agent": _text,
        "round": count,
        "version": count,
        "samples": count,
        "delta": _vector,
        "score": _number,
        "threshold": _number,
        "evidence": _evidence,
        "size": count,
        "metrics": _values,
        "changed": count,
        "changed_errors": count,
        "counts": _counts,
    },
    Vote: {
        "agent": _text,
        "round": count,
        "attempt": count,
        "poisoned": _truth,
        "score": _number,
        "threshold": _number,
        "samples": count,
        "evidence": _evidence,
        "size": count,
        "changed": count,
        "changed_errors": count,
        "counts": _counts,
    },
    GroupVotes: {
        "agent": _text,
        "round": count,
        "attempt": count,
        "groups": _groups,
        "poisoned": _verdicts,
        "scores": _scores,
        "thresholds": _scores,
        "samples": count,
        "size": count,
        "cpu": count,
    },
    Decline: {"agent": _text, "round": count, "attempt": count},
    Metrics: {
        "agent": _text,
        "round": count,
        "attempt": count,
        "samples": count,
        "values": _values,
    },
    ColluderUpdate: {"agent": _text, "round": count, "version": count, "delta": _vector},
    AttackVector: {"round": count, "version": count, "centre": _vector, "spread": _spread},
    Presence: {
        "agent": _text,
        "online": _truth,
        "since": _number,
        "votes": _truth,
        "evaluates": _truth,
    },
    AggregatorPresence: {"online": _truth, "since": _number, "partition": _words},
    Presence1: {"online": _truth, "since": _number, "deals": _words},
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

VECTORS = frozenset(kind for kind, checks in SCHEMA.items() if _vector in checks.values())
"""What holds a vector of the model's length, and little else."""
