"""Messages to bytes and back, strictly; keys that we do not know are skipped.

``decode`` turns any bytes on any topic into a message or raises ``BadMessage``, nothing else.
What it returns needs no second check: keys, types, ranges, lengths and finiteness hold.
Whether a message fits the round is for the round to say.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import msgpack
import numpy as np

from fedjury.protocol.cells import (
    MAX_CELL_AGENTS,
    TALLY_LONGEST,
    CellPresence,
    CellWorker,
    GroupSum,
    GroupSumRequest,
    PartialSum,
    SumRequest,
    Tally,
    listed,
)
from fedjury.protocol.checks import MAX_GROUPS, Limits, count
from fedjury.protocol.codecs.encoding import Encode
from fedjury.protocol.compression import compress, most_bytes
from fedjury.protocol.fields import jsonable
from fedjury.protocol.logs import log_to_json, read_log
from fedjury.protocol.messages import (
    LOGS,
    AggregatorPresence,
    AttackVector,
    BadMessage,
    Candidate,
    CellLink,
    CellMember,
    Decline,
    GroupCandidate,
    GroupVotes,
    Heartbeat,
    Manifest,
    Message,
    Metrics,
    Model,
    Presence,
    Presence1,
    Reason,
    Round,
    Update,
    Vote,
)
from fedjury.protocol.record import RecordError
from fedjury.protocol.schema import CHECKS, PAYLOAD, REQUIRED, VECTORS
from fedjury.protocol.secure import LONGEST, MaskedUpdate
from fedjury.protocol.topics import CHANNELS, JSON, PLAIN, USUAL, Topics

MAX_KEYS = 64
"""Keys of a binary map, known or not. It holds no lists: what announces one is not allocated."""


SMALL = 1000
"""Bytes of the longest vote or presence: they hold a few numbers, and anybody may send them."""

ENVELOPE = 4000
"""Bytes of a payload around its vector, at the most."""

LONGEST_METRICS = 8000
"""Bytes of the longest metrics."""

LEFT_OUT: dict[type[Message], tuple[str, ...]] = {
    Manifest: ("counts", "group_judge", "secure", "cells"),
    Update: ("metrics", "changed", "changed_errors", "counts"),
    Vote: ("changed", "changed_errors", "counts"),
    Round: ("evaluators", "groups", "each", "calls"),
    Decline: ("why",),
    SumRequest: ("centre",),
    GroupSumRequest: ("survivors",),
    GroupSum: ("data",),
    Tally: ("refused", "invalid"),
}
"""Keys that are not written where they are empty; a 0 is written."""

NOT_IF_ZERO = frozenset({"groups", "each", "group_judge", "why", "invalid"})
"""Keys of those that are not written where they are 0, or an empty text, either."""

SMALL_KINDS = (
    Presence,
    AggregatorPresence,
    Presence1,
    Heartbeat,
    CellLink,
    CellMember,
    CellWorker,
)
"""What says a few words alone."""

BROADCAST = (Manifest, Round, Model, Candidate, GroupCandidate, AttackVector, SumRequest)
"""What many get, one topic each."""


def encode(message: Message, codec: str = "float32", by: Encode | None = None) -> bytes:
    """Write a message as its payload; vectors travel in ``codec``, written ``by`` its sender."""
    kind = type(message)
    channel = CHANNELS[kind]
    if isinstance(message, LOGS):
        return _dumped(log_to_json(message.record))
    if isinstance(message, CellLink):
        return b"%d" % message.online
    content = {key: _plain(getattr(message, key), codec, by) for key in PAYLOAD[kind]}
    if isinstance(message, Round):
        content["calls"] = {part: asdict(call) for part, call in message.calls.items()}
    for key in LEFT_OUT.get(kind, ()):
        empty = content[key] is None or content[key] in ((), {}, b"")
        if empty or (key in NOT_IF_ZERO and not content[key]):
            del content[key]
    if channel.content_type == JSON:
        return _dumped(jsonable(content))
    packed: bytes = msgpack.packb(content)
    return packed


def decode(topic: str, payload: bytes, limits: Limits, topics: Topics = USUAL) -> Message:
    """Read the payload that came on one of these topics.

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

    def __init__(self, topics: Topics = USUAL) -> None:
        self._topics = topics
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
        message = decode(topic, payload, self.limits, self._topics)
        if type(message) in BROADCAST:
            self._last[topic] = (payload, message)
        return message


def _dumped(content: Any) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any, codec: str, by: Encode | None) -> Any:
    return compress(value, codec, by)._asdict() if isinstance(value, np.ndarray) else value


def _longest(kind: type[Message], limits: Limits) -> int:
    """Return the bytes of the longest payload of a kind that is looked at."""
    if kind in SMALL_KINDS:
        return min(limits.size, SMALL)
    if kind is Vote:
        return min(limits.size, SMALL + 4 * limits.counts)
    if kind is GroupVotes:
        return min(limits.size, SMALL + 13 * MAX_GROUPS)
    if kind is Metrics:
        return min(limits.size, LONGEST_METRICS)
    if kind in LONGEST:
        return min(limits.size, SMALL + LONGEST[kind])
    if kind is MaskedUpdate and limits.parameters is not None:
        return min(limits.size, 4 * limits.parameters + SMALL)
    if kind is GroupSum and limits.parameters is not None:
        return 4 * limits.parameters + SMALL + MAX_CELL_AGENTS // 8
    if kind in (Tally, CellPresence, GroupSumRequest):
        return TALLY_LONGEST  # of a trusted part of the federation, however small its models are
    if kind is PartialSum and limits.parameters is not None:
        return 8 * limits.parameters + SMALL
    if kind is SumRequest:
        return limits.size + TALLY_LONGEST
    longest = limits.size
    if limits.parameters is not None and kind in VECTORS:
        envelope = ENVELOPE + 4 * limits.counts * (kind is Update)
        longest = min(longest, most_bytes(limits.parameters) + envelope)
    return longest * 2 if kind is AttackVector else longest


def _parse(payload: bytes, content_type: str) -> dict[str, Any]:
    if content_type == PLAIN:
        if payload not in (b"0", b"1"):
            raise BadMessage(Reason.MALFORMED, "neither 0 nor 1")
        return {"online": payload == b"1"}
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
    for key in ("version", "group", "cell"):
        if key in field:
            values[key] = count(key, int(field[key]), limits)
    for key, check in CHECKS[kind]:  # keys that we do not know are skipped
        if key in content:
            values[key] = check(key, content[key], limits)
    if kind is GroupVotes:
        _check_lengths(values)
    if kind in LENGTHS:
        _check_pieces(kind, values)
    return kind(**values)


def _check_lengths(said: dict[str, Any]) -> None:
    """Refuse votes on groups that do not say as much of each group."""
    numbers = len(said["groups"]) // 4
    for key, size in (("poisoned", 1), ("scores", 4), ("thresholds", 4)):
        if len(said[key]) != size * numbers:
            raise BadMessage(Reason.WRONG_LENGTH, f"{key} of {numbers:,} groups")


LENGTHS: dict[type[Message], tuple[tuple[str, int], ...]] = {
    CellPresence: (("came", 0), ("abilities", 1)),
    Tally: (("names", 0), ("samples", 4), ("norms", 8)),
    SumRequest: (("cells", 4), ("taken", 4)),
}
"""Fields that must say something of as many as the first: its names (0), or bytes of each."""


def _check_pieces(kind: type[Message], said: dict[str, Any]) -> None:
    """Refuse a cell's message of which the pieces do not fit each other."""
    (first, size), *others = LENGTHS[kind]
    entries = len(said[first]) // size if size else len(listed(said[first]))
    for key, each in others:
        if len(said[key]) != each * entries:
            raise BadMessage(Reason.WRONG_LENGTH, f"{key} of {entries:,} in {first}")
