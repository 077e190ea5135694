"""Messages to bytes and back, strictly; keys that we do not know are skipped.

``decode`` turns any bytes on any topic into a message or raises ``BadMessage``, nothing else.
What it returns needs no second check: keys, types, ranges, lengths and finiteness hold.
Whether a message fits the round is for the round to say.
"""

from __future__ import annotations

import json
import operator
from typing import Any

import msgpack
import numpy as np

from fedjury.protocol import topics
from fedjury.protocol.compression import compress
from fedjury.protocol.fields import jsonable
from fedjury.protocol.logs import log_to_json, read_log
from fedjury.protocol.messages import (
    LOGS,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    Manifest,
    Message,
    Model,
    Presence,
    Presence1,
    Reason,
    Round,
    Update,
    Vote,
)
from fedjury.protocol.record import RecordError
from fedjury.protocol.schema import CHECKS, PAYLOAD, REQUIRED, VECTORS, Limits, count
from fedjury.protocol.topics import CHANNELS, JSON

MAX_KEYS = 64
"""Keys of a binary map, known or not. It holds no lists: what announces one is not allocated."""


SMALL = 1000
"""Bytes of the longest vote or presence: they hold a few numbers, and anybody may send them."""

ENVELOPE = 1000
"""Bytes of a payload around its vector, at the most."""

BROADCAST = (Manifest, Round, Model, Candidate, AttackVector)
"""What many get, one topic each."""


def encode(message: Message, codec: str = "float32") -> bytes:
    """Write a message as its payload; vectors travel in ``codec``."""
    kind = type(message)
    channel = CHANNELS[kind]
    if isinstance(message, LOGS):
        return _dumped(log_to_json(message.record))
    content = {key: _plain(getattr(message, key), codec) for key in PAYLOAD[kind]}
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


class Encoder:
    """Encodes for many senders: the one update that hundreds of fakes send is packed once."""

    def __init__(self) -> None:
        self._last: tuple[Message, str, bytes] | None = None

    def encode(self, message: Message, codec: str) -> bytes:
        """Write as :func:`encode` does; an update of the same array as the last is the same."""
        if not isinstance(message, Update):
            return encode(message, codec)
        if self._last is not None:
            last, used, payload = self._last
            same = isinstance(last, Update) and last.delta is message.delta and used == codec
            if same and _said(last) == _said(message):
                return payload
        self._last = message, codec, encode(message, codec)
        return self._last[2]


_said = operator.attrgetter(*(key for key in PAYLOAD[Update] if key != "delta"))
"""What an update says beside its vector; the agent is in the topic."""


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


def _plain(value: Any, codec: str) -> Any:
    return compress(value, codec)._asdict() if isinstance(value, np.ndarray) else value


def _longest(kind: type[Message], limits: Limits) -> int:
    """Return the bytes of the longest payload of a kind that is looked at."""
    if kind in (Presence, AggregatorPresence, Presence1, Vote):
        return min(limits.size, SMALL)
    longest = limits.size
    if limits.parameters is not None and kind in VECTORS:
        # No codec takes more than float32, but for what zstd adds where it cannot make it less.
        longest = min(longest, 4 * limits.parameters + limits.parameters // 32 + ENVELOPE)
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
        raise BadMessage(Reason.MISSING_KEY, f"a record without what it needs: {why}") from why


def _unpack(payload: bytes) -> Any:
    return msgpack.unpackb(payload, max_array_len=0, max_map_len=MAX_KEYS)


def _message(
    kind: type[Message], content: dict[str, Any], field: dict[str, str], limits: Limits
) -> Message:
    if not content.keys() >= REQUIRED[kind]:
        raise BadMessage(Reason.MISSING_KEY, ", ".join(sorted(REQUIRED[kind] - content.keys())))
    values: dict[str, Any] = {"agent": field["agent"]} if "agent" in field else {}
    if "version" in field:
        values["version"] = count("version", int(field["version"]), limits)
    for key, check in CHECKS[kind]:  # keys that we do not know are skipped
        if key in content:
            values[key] = check(key, content[key], limits)
    return kind(**values)
