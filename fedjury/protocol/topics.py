"""Which message travels on which topic, and how: the whole protocol on one screen."""

from __future__ import annotations

import re
from typing import NamedTuple

from fedjury.protocol import messages
from fedjury.protocol.messages import BadMessage, Message, Reason

ROOT = "fl/v1"
MSGPACK = "application/msgpack"
JSON = "application/json"

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What runs and agents may be called: anything else could be mistaken for a topic."""

VERSION = re.compile(r"0|[1-9][0-9]{0,9}")


class Channel(NamedTuple):
    """A topic below ``fl/v1/{run}/`` and how its messages travel; ``expiry`` is in seconds."""

    topic: str
    retain: bool
    content_type: str
    expiry: int | None = None
    qos: int = 1


CHANNELS: dict[type[Message], Channel] = {
    messages.Manifest: Channel("manifest", retain=True, content_type=JSON),
    messages.Round: Channel("round", retain=True, content_type=JSON),
    messages.Model: Channel("model", retain=True, content_type=MSGPACK),
    messages.History: Channel("history/{version}", retain=True, content_type=MSGPACK),
    messages.Candidate: Channel("candidate", retain=True, content_type=MSGPACK, expiry=3600),
    messages.Update: Channel("update/{agent}", retain=False, content_type=MSGPACK),
    messages.Vote: Channel("vote/{agent}", retain=False, content_type=MSGPACK),
    messages.ColluderUpdate: Channel(
        "collusion/report/{agent}", retain=False, content_type=MSGPACK
    ),
    messages.AttackVector: Channel("collusion/plot", retain=False, content_type=MSGPACK),
    messages.Presence: Channel("agent/{agent}", retain=True, content_type=JSON),
    messages.AggregatorPresence: Channel("aggregator", retain=True, content_type=JSON),
    messages.RoundLog: Channel("log/round", retain=True, content_type=JSON),
    messages.RefusedLog: Channel("log/refused", retain=True, content_type=JSON),
    messages.PastLog: Channel("log/past", retain=True, content_type=JSON),
}

_SAID = {kind: re.findall(r"{(\w+)}", channel.topic) for kind, channel in CHANNELS.items()}
"""The fields of a message that its topic says."""


class Address(NamedTuple):
    """What a topic says: the run, the kind of message, and the agent or version in it."""

    run: str
    kind: type[Message]
    field: dict[str, str]


def topic_of(run: str, message: Message) -> str:
    """Say where a message belongs."""
    kind = type(message)
    content = {key: getattr(message, key) for key in _SAID[kind]}
    return f"{ROOT}/{run}/{CHANNELS[kind].topic.format_map(content)}"


def topic_for(run: str, kind: type[Message], value: object = "+") -> str:
    """Say where messages of a kind are found: by default all, or those of one agent or version."""
    return f"{ROOT}/{run}/{re.sub('{.*}', str(value), CHANNELS[kind].topic)}"


def _pattern(topic: str) -> re.Pattern[str]:
    """Turn ``history/{version}`` into a pattern with the groups ``run`` and ``version``."""
    fields = {"agent": NAME.pattern, "version": VERSION.pattern}
    body = re.sub(r"{(\w+)}", lambda m: f"(?P<{m[1]}>{fields[m[1]]})", topic)
    return re.compile(f"{ROOT}/(?P<run>{NAME.pattern})/{body}")


_PATTERNS = {kind: _pattern(channel.topic) for kind, channel in CHANNELS.items()}

_KINDS: dict[str, list[type[Message]]] = {}
"""The first word after the run -> what may be meant: a thousand messages a round are read."""
for _kind, _channel in CHANNELS.items():
    _KINDS.setdefault(_channel.topic.partition("/")[0], []).append(_kind)


def parse(topic: str) -> Address:
    """Read a topic.

    Raises
    ------
    BadMessage
        If it is none of the protocol's topics.
    """
    word = topic.split("/", 4)[3:4]
    for kind in _KINDS.get(word[0], ()) if word else ():
        if match := _PATTERNS[kind].fullmatch(topic):
            field = match.groupdict()
            return Address(field.pop("run"), kind, field)
    raise BadMessage(Reason.UNKNOWN_TOPIC, topic[:200])


def is_retained_clear(topic: str, payload: bytes) -> bool:
    """Say whether this only removed what was retained: an empty payload on a retained topic."""
    try:
        return not payload and CHANNELS[parse(topic).kind].retain
    except BadMessage:
        return False
