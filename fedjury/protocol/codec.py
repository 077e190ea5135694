"""Messages to bytes and back, strictly.

``decode`` turns any bytes on any topic into a message or raises ``BadMessage``, nothing else.
What it returns needs no second check: keys, types, ranges, lengths and finiteness hold.
Whether a message fits the round is for the round to say.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import msgpack
import numpy as np

from fedjury.protocol import topics
from fedjury.protocol.codecs.encoding import Encode
from fedjury.protocol.compression import (
    CODECS,
    Packed,
    compress,
    decompress,
    most_bytes,
)
from fedjury.protocol.fields import jsonable
from fedjury.protocol.logs import log_to_json, read_log
from fedjury.protocol.messages import (
    LOGS,
    MAX_COUNT,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    ColluderUpdate,
    History,
    Manifest,
    Message,
    Model,
    Phase,
    Presence,
    Reason,
    Round,
    Update,
    Vector,
    Vote,
)
from fedjury.protocol.record import RecordError
from fedjury.protocol.topics import CHANNELS, JSON, NAME

MAX_NAMES = 1_000_000
MAX_LOOK_BACK = 10_000
MAX_EVIDENCE = 101
"""Numbers in a vote's evidence."""

MAX_KEYS = 16
"""Keys of a binary map, which holds no lists at all: what announces more is not even allocated."""


SMALL = 1000
"""Bytes of the longest vote or presence: they hold a few numbers, and anybody may send them."""

ENVELOPE = 1000
"""Bytes of a payload around its vector, at the most."""

BROADCAST = (Manifest, Round, Model, Candidate, AttackVector)
"""What many get, one topic each."""


PAYLOAD = {
    kind: [message.name for message in fields(kind) if f"{{{message.name}}}" not in channel.topic]
    for kind, channel in CHANNELS.items()
}
"""The fields of a message that its topic does not say."""


class Limits(NamedTuple):
    """What a receiver accepts: ``parameters`` d (None: any), payload ``size``, finite or not."""

    parameters: int | None = None
    size: int = 32_000_000
    finite: bool = True


def encode(message: Message, codec: str = "float32", by: Encode | None = None) -> bytes:
    """Write a message as its payload; vectors travel in ``codec``, written ``by`` its sender."""
    kind = type(message)
    channel = CHANNELS[kind]
    if isinstance(message, LOGS):
        return _dumped(log_to_json(message.record))
    content = {key: _plain(getattr(message, key), codec, by) for key in PAYLOAD[kind]}
    if channel.content_type == JSON:
        return _dumped(jsonable(content))
    packed: bytes = msgpack.packb(content)
    return packed


def decode(topic: str, payload: bytes, limits: Limits) -> Message:
    """Read the payload that came on a topic.

    Raises
    ------
    BadMessage
        If it is anything but a message of this protocol within the limits.
    """
    kind, field = topics.parse(topic)[1:]
    agent = field.get("agent", "")
    try:
        longest = _longest(kind, limits)
        if len(payload) > longest:
            raise BadMessage(Reason.TOO_LARGE, f"{len(payload):,} bytes, at most {longest:,}")
        content = _parse(payload, CHANNELS[kind].content_type)
        if kind in LOGS:
            return _log(kind, content)
        return _message(kind, content, field, limits)
    except BadMessage as bad:
        bad.agent, bad.kind = agent, kind
        raise


class Decoder:
    """Decodes for many receivers: a broadcast that a thousand of them got is read once."""

    def __init__(self) -> None:
        self.limits = Limits()
        self._last: dict[str, tuple[bytes, Message]] = {}

    def limit(self, limits: Limits) -> None:
        """Accept from now on what is within ``limits``."""
        self.limits = limits
        self._last.clear()

    def decode(self, topic: str, payload: bytes) -> Message:
        """Read as :func:`decode` does; equal bytes on a broadcast topic give the same message."""
        last = self._last.get(topic)
        if last is not None and (last[0] is payload or last[0] == payload):
            return last[1]
        message = decode(topic, payload, self.limits)
        if type(message) in BROADCAST:
            self._last[topic] = (payload, message)
        return message


def _dumped(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any, codec: str, by: Encode | None) -> Any:
    return compress(value, codec, by)._asdict() if isinstance(value, np.ndarray) else value


def _longest(kind: type[Message], limits: Limits) -> int:
    """Return the bytes of the longest payload of a kind that is looked at."""
    if kind in (Presence, AggregatorPresence, Vote):
        return min(limits.size, SMALL)
    longest = limits.size
    if limits.parameters is not None and kind in VECTORS:
        longest = min(longest, most_bytes(limits.parameters) + ENVELOPE)
    return longest * 2 if kind is AttackVector else longest


def _parse(payload: bytes, content_type: str) -> dict[str, Any]:
    try:
        content = json.loads(payload) if content_type == JSON else _unpack(payload)
    except Exception as why:
        # Two parsers, a dozen kinds of errors between them, all of the same meaning.
        raise BadMessage(Reason.MALFORMED, f"not {content_type}: {type(why).__name__}") from why
    if not isinstance(content, dict):
        raise BadMessage(Reason.WRONG_TYPE, "not a map")
    return content


def _log(kind: type[Message], content: dict[str, Any]) -> Message:
    try:
        return kind(read_log(kind, content))  # type: ignore[call-arg, arg-type]  # one of LOGS
    except RecordError as why:
        raise BadMessage(Reason.WRONG_KEYS, f"a record without what it needs: {why}") from why


def _unpack(payload: bytes) -> Any:
    return msgpack.unpackb(payload, max_array_len=0, max_map_len=MAX_KEYS)


def _message(
    kind: type[Message], content: dict[str, Any], field: dict[str, str], limits: Limits
) -> Message:
    checks = SCHEMA[kind]
    expected = checks.keys() - field.keys()
    if content.keys() != expected:
        odd = sorted(map(str, content.keys() ^ expected))[:5]
        raise BadMessage(Reason.WRONG_KEYS, f"missing or unknown: {', '.join(odd)[:200]}")
    values: dict[str, Any] = {"agent": field["agent"]} if "agent" in field else {}
    if "version" in field:
        values["version"] = _count("version", int(field["version"]), limits)
    for key in expected:
        values[key] = checks[key](key, content[key], limits)
    return kind(**values)


# The checks: each takes the key, what came, and the limits, and returns the value or raises.

Check = Callable[[str, Any, Limits], Any]


def _typed(key: str, value: Any, kind: type) -> None:
    if type(value) is not kind:  # a bool is no int here
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not {kind.__name__}")


def _range(key: str, right: bool) -> None:
    if not right:
        raise BadMessage(Reason.OUT_OF_RANGE, key)


def _count(key: str, value: Any, _: Limits) -> int:
    _typed(key, value, int)
    _range(key, 0 <= value <= MAX_COUNT)
    return int(value)


def _positive(key: str, value: Any, limits: Limits) -> int:
    _range(key, _count(key, value, limits) >= 1)
    return int(value)


def _look_back(key: str, value: Any, limits: Limits) -> int:
    _range(key, _count(key, value, limits) <= MAX_LOOK_BACK)
    return int(value)


def _momentum(key: str, value: Any, limits: Limits) -> float:
    _range(key, 0 <= _number(key, value, limits) < 1)
    return float(value)


def _codec(key: str, value: Any, _: Limits) -> str:
    _typed(key, value, str)
    _range(key, value in CODECS)
    return str(value)


def _options(key: str, value: Any, _: Limits) -> dict[str, Any]:
    _typed(key, value, dict)
    _range(key, len(value) <= MAX_KEYS)
    for name, item in value.items():
        _range(key, len(name) <= 200 and type(item) in (str, int, float, bool))
        _range(key, len(item) <= 200 if isinstance(item, str) else -1e308 <= item <= 1e308)
    return dict(value)


def _number(key: str, value: Any, _: Limits) -> float:
    if type(value) not in (int, float):
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not a number")
    _range(key, -1e308 <= value <= 1e308)
    return float(value)


def _evidence(key: str, value: Any, _: Limits) -> bytes:
    _typed(key, value, bytes)
    _range(key, len(value) % 4 == 0 and len(value) <= 4 * MAX_EVIDENCE)
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
    _range(key, value in tuple(Phase))
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
    return tuple(_count(key, item, limits) for item in value)


def _tensors(key: str, value: Any, limits: Limits) -> tuple[tuple[str, tuple[int, ...]], ...]:
    _typed(key, value, list)
    _range(key, all(isinstance(item, list) and len(item) == 2 for item in value))
    return tuple((_text(key, name, limits), _shape(key, shape, limits)) for name, shape in value)


def _vector(key: str, value: Any, limits: Limits) -> Vector:
    _typed(key, value, dict)
    if value.keys() != {"codec", "n", "data"}:
        raise BadMessage(Reason.WRONG_KEYS, f"{key} needs codec, n and data")
    _typed("codec", value["codec"], str)
    _typed("data", value["data"], bytes)
    packed = Packed(value["codec"], _count("n", value["n"], limits), value["data"])
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


_MODEL: dict[str, Check] = {"version": _count, "weights": _vector}

SCHEMA: dict[type[Message], dict[str, Check]] = {
    Manifest: {
        "model": _text,
        "tensors": _tensors,
        "parameters": _positive,
        "classes": _positive,
        "input_shape": _shape,
        "epochs": _positive,
        "batch_size": _positive,
        "learning_rate": _number,
        "momentum": _momentum,
        "codec": _codec,
        "history_codec": _codec,
        "max_bytes": _count,
        "judge": _text,
        "judge_options": _options,
        "look_back": _look_back,
        "minimum_history": _count,
        "protocol": _count,
    },
    Round: {
        "round": _count,
        "attempt": _count,
        "phase": _phase,
        "version": _count,
        "contributors": _contributors,
        "validators": _names,
        "seconds": _number,
    },
    Model: _MODEL,
    History: _MODEL,
    Candidate: {"round": _count, "attempt": _count, "base": _count, "weights": _vector},
    Update: {
        "agent": _text,
        "round": _count,
        "version": _count,
        "samples": _count,
        "delta": _vector,
        "score": _number,
        "threshold": _number,
        "evidence": _evidence,
        "bytes": _count,
    },
    Vote: {
        "agent": _text,
        "round": _count,
        "attempt": _count,
        "poisoned": _truth,
        "score": _number,
        "threshold": _number,
        "samples": _count,
        "evidence": _evidence,
        "bytes": _count,
    },
    ColluderUpdate: {"agent": _text, "round": _count, "version": _count, "delta": _vector},
    AttackVector: {"round": _count, "version": _count, "centre": _vector, "spread": _spread},
    Presence: {"agent": _text, "online": _truth, "since": _number},
    AggregatorPresence: {"online": _truth, "since": _number, "deals": _words},
}

VECTORS = frozenset(kind for kind, checks in SCHEMA.items() if _vector in checks.values())
"""What holds a vector of the model's length, and little else."""
