"""Which message travels on which topic, and how: the whole protocol on one screen."""

from __future__ import annotations

import re
from typing import NamedTuple

from fedjury.protocol import messages
from fedjury.protocol.messages import BadMessage, Message, Reason

ROOT = "fl/v2"
ROOT_1 = "fl/v1"
"""Where programs of the first version look; all that we say there is that they are too old."""

MSGPACK = "application/msgpack"
JSON = "application/json"

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What runs and agents may be called: anything else could be mistaken for a topic."""

VERSION = re.compile(r"0|[1-9][0-9]{0,9}")


class Channel(NamedTuple):
    """A topic below ``{root}/{run}/`` and how its messages travel; ``expiry`` is in seconds."""

    topic: str
    retain: bool
    content_type: str
    expiry: int | None = None
    qos: int = 1
    root: str = ROOT


CHANNELS: dict[type[Message], Channel] = {
    messages.Manifest: Channel("manifest", retain=True, content_type=JSON),
    messages.Round: Channel("round", retain=True, content_type=JSON),
    messages.Model: Channel("model", retain=True, content_type=MSGPACK),
    messages.History: Channel("history/{version}", retain=True, content_type=MSGPACK),
    messages.Candidate: Channel("candidate", retain=True, content_type=MSGPACK, expiry=3600),
    messages.Update: Channel("update/{agent}", retain=False, content_type=MSGPACK),
    messages.Vote: Channel("vote/{agent}", retain=False, content_type=MSGPACK),
    messages.Decline: Channel("decline/{agent}", retain=False, content_type=JSON),
    messages.Metrics: Channel("metrics/{agent}", retain=False, content_type=JSON),
    messages.ColluderUpdate: Channel(
        "collusion/update/{agent}", retain=False, content_type=MSGPACK
    ),
    messages.AttackVector: Channel("collusion/attack", retain=False, content_type=MSGPACK),
    messages.Presence: Channel("agent/{agent}", retain=True, content_type=JSON),
    messages.AggregatorPresence: Channel("aggregator", retain=True, content_type=JSON),
    messages.RoundLog: Channel("log/round", retain=True, content_type=JSON),
    messages.InvalidLog: Channel("log/invalid", retain=True, content_type=JSON),
    messages.HistoryLog: Channel("log/history", retain=True, content_type=JSON),
    messages.Manifest1: Channel("manifest", retain=True, content_type=JSON, root=ROOT_1),
    messages.Presence1: Channel("aggregator", retain=True, content_type=JSON, root=ROOT_1),
}

_SAID = {kind: re.findall(r"{(\w+)}", channel.topic) for kind, channel in CHANNELS.items()}
"""The fields of a message that its topic says."""


class Address(NamedTuple):
    """What a topic says: the run, the kind of message, and the agent or version in it."""

    run: str
    kind: type[Message]
    field: dict[str, str]


def topic_of(run: str, message: Message) -> str:
    """Return where a message belongs."""
    kind = type(message)
    channel = CHANNELS[kind]
    content = {key: getattr(message, key) for key in _SAID[kind]}
    return f"{channel.root}/{run}/{channel.topic.format_map(content)}"


def topic_for(run: str, kind: type[Message], value: object = "+") -> str:
    """Return where messages of a kind are: by default all, or those of one agent or version."""
    channel = CHANNELS[kind]
    return f"{channel.root}/{run}/{re.sub('{.*}', str(value), channel.topic)}"


def _pattern(channel: Channel) -> re.Pattern[str]:
    """Turn ``history/{version}`` into a pattern with the groups ``run`` and ``version``."""
    fields = {"agent": NAME.pattern, "version": VERSION.pattern}
    body = re.sub(r"{(\w+)}", lambda m: f"(?P<{m[1]}>{fields[m[1]]})", channel.topic)
    return re.compile(f"{channel.root}/(?P<run>{NAME.pattern})/{body}")


_PATTERNS = {kind: _pattern(channel) for kind, channel in CHANNELS.items()}

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
