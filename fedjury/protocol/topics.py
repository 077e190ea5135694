"""Which message travels on which topic, and how: the whole protocol on one screen."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from fedjury.protocol import cells, membership, messages, secure
from fedjury.protocol.membership import PLACE
from fedjury.protocol.messages import BadMessage, Message, Reason

ROOT = "fl/v2"
"""Below which all topics are, unless ``broker.root`` says otherwise."""
ROOT_1 = "fl/v1"
"""Where programs of the first version look; all that we say there is that they are too old. Beside
another root than ours there is no such place: those programs know of none."""

MSGPACK = "application/msgpack"
JSON = "application/json"
PLAIN = "text/plain"
"""A digit, as Mosquitto writes the state of a bridge: 1 or 0."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What runs and agents may be called: anything else could be mistaken for a topic."""

VERSION = re.compile(r"0|[1-9][0-9]{0,9}")
"""The number of an accepted model, or of a group."""


class Channel(NamedTuple):
    """A topic below ``{root}/{run}/`` and how its messages travel; ``expiry`` is in seconds.

    ``root``: its own, where that is not the one of all others. ``beside``: it is below ``{root}/``,
    beside the runs, and says itself which run it is about, if any.
    """

    topic: str
    retain: bool
    content_type: str
    expiry: int | None = None
    qos: int = 1
    root: str = ""
    beside: bool = False


CHANNELS: dict[type[Message], Channel] = {
    messages.Manifest: Channel("manifest", retain=True, content_type=JSON),
    messages.Round: Channel("round", retain=True, content_type=JSON),
    messages.Model: Channel("model", retain=True, content_type=MSGPACK),
    messages.History: Channel("history/{version}", retain=True, content_type=MSGPACK),
    messages.Candidate: Channel("candidate", retain=True, content_type=MSGPACK, expiry=3600),
    messages.GroupCandidate: Channel(
        "group/{group}", retain=True, content_type=MSGPACK, expiry=3600
    ),
    messages.GroupHistory: Channel("group-history/{version}", retain=True, content_type=MSGPACK),
    messages.Update: Channel("update/{agent}", retain=False, content_type=MSGPACK),
    messages.Vote: Channel("vote/{agent}", retain=False, content_type=MSGPACK),
    messages.GroupVotes: Channel("group-vote/{agent}", retain=False, content_type=MSGPACK),
    messages.Decline: Channel("decline/{agent}", retain=False, content_type=JSON),
    secure.SecureKeys: Channel("secure/keys/{agent}", retain=False, content_type=MSGPACK),
    secure.SecurePeers: Channel("secure/peers/{agent}", retain=False, content_type=MSGPACK),
    secure.SecureShares: Channel("secure/shares/{agent}", retain=False, content_type=MSGPACK),
    secure.SecureInbox: Channel("secure/inbox/{agent}", retain=False, content_type=MSGPACK),
    secure.MaskedUpdate: Channel("secure/masked/{agent}", retain=False, content_type=MSGPACK),
    secure.UnmaskRequest: Channel("secure/unmask/{agent}", retain=False, content_type=MSGPACK),
    secure.UnmaskShares: Channel("secure/unmasked/{agent}", retain=False, content_type=MSGPACK),
    messages.Metrics: Channel("metrics/{agent}", retain=False, content_type=JSON),
    messages.ColluderUpdate: Channel(
        "collusion/update/{agent}", retain=False, content_type=MSGPACK
    ),
    messages.AttackVector: Channel("collusion/attack", retain=False, content_type=MSGPACK),
    cells.CellWorker: Channel("cell/worker/{cell}", retain=True, content_type=JSON),
    cells.CellPresence: Channel("cell/agents/{cell}", retain=False, content_type=MSGPACK),
    cells.Tally: Channel("cell/tally/{cell}", retain=False, content_type=MSGPACK),
    cells.SumRequest: Channel("cell/request", retain=True, content_type=MSGPACK, expiry=3600),
    cells.PartialSum: Channel("cell/sum/{cell}", retain=False, content_type=MSGPACK),
    cells.GroupSumRequest: Channel("cell/group-request/{cell}", retain=False, content_type=MSGPACK),
    cells.GroupSum: Channel("cell/group-sum/{cell}", retain=False, content_type=MSGPACK),
    messages.Presence: Channel("agent/{agent}", retain=True, content_type=JSON),
    messages.AggregatorPresence: Channel("aggregator", retain=True, content_type=JSON),
    messages.Heartbeat: Channel("heartbeat", retain=False, content_type=JSON, qos=0),
    messages.RoundLog: Channel("log/round", retain=True, content_type=JSON),
    messages.InvalidLog: Channel("log/invalid", retain=True, content_type=JSON),
    messages.HistoryLog: Channel("log/history", retain=True, content_type=JSON),
    membership.CellLink: Channel(
        f"{PLACE}/{{cell}}/link", retain=True, content_type=PLAIN, beside=True
    ),
    membership.CellMember: Channel(
        f"{PLACE}/{{cell}}/{{run}}/agent/{{agent}}", retain=True, content_type=JSON, beside=True
    ),
    messages.Manifest1: Channel("manifest", retain=True, content_type=JSON, root=ROOT_1),
    messages.Presence1: Channel("aggregator", retain=True, content_type=JSON, root=ROOT_1),
}

_SAID = {
    kind: [field for field in re.findall(r"{(\w+)}", channel.topic) if field != "run"]
    for kind, channel in CHANNELS.items()
}
"""The fields of a message that its topic says."""


class Address(NamedTuple):
    """What a topic says: the run, the kind of message, and the agent or version in it."""

    run: str
    kind: type[Message]
    field: dict[str, str]


class Topics:
    """The topics below one root, of however many levels; made by :func:`below`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._roots = {
            kind: channel.root or root
            for kind, channel in CHANNELS.items()
            if not channel.root or root == ROOT
        }
        """The kinds of messages that there are here -> the root of each."""
        self._patterns = {kind: _pattern(at, CHANNELS[kind]) for kind, at in self._roots.items()}
        self._word = root.count("/") + 2
        """Which level of a topic follows its run."""
        self._kinds: dict[str, list[type[Message]]] = {}
        """That word -> what may be meant: a thousand messages a round are read."""
        self._beside = [kind for kind in self._roots if CHANNELS[kind].beside]
        for kind in self._roots.keys() - self._beside:
            self._kinds.setdefault(CHANNELS[kind].topic.partition("/")[0], []).append(kind)

    def has(self, kind: type[Message]) -> bool:
        """Return whether messages of this kind are ever below this root."""
        return kind in self._roots

    def of(self, run: str, message: Message) -> str:
        """Return where a message belongs."""
        kind = type(message)
        content = {key: getattr(message, key) for key in _SAID[kind]}
        return f"{self._base(run, kind)}{CHANNELS[kind].topic.format_map(content | {'run': run})}"

    def where(self, run: str, kind: type[Message], value: object = "+") -> str:
        """Return where messages of a kind are: by default all, or of one agent or version."""
        topic = CHANNELS[kind].topic.replace("{run}", run)
        return self._base(run, kind) + re.sub(r"{\w+}", str(value), topic)

    def all_of(self, run: str) -> list[str]:
        """Return where all topics of a run are."""
        return [f"{self.root}/{run}/#", f"{self.root}/{PLACE}/+/{run}/#"]

    def _base(self, run: str, kind: type[Message]) -> str:
        """Return the place below which a kind's topic is."""
        root = self._roots[kind]
        return f"{root}/" if CHANNELS[kind].beside else f"{root}/{run}/"

    def filters(self, run: str, kinds: Iterable[type[Message]]) -> list[str]:
        """Return where all messages of those of these kinds are that there are here."""
        return [self.where(run, kind) for kind in kinds if self.has(kind)]

    def parse(self, topic: str) -> Address:
        """Read a topic.

        Raises
        ------
        BadMessage
            If it is none of the protocol's topics below this root.
        """
        word = topic.split("/", self._word + 1)[self._word : self._word + 1]
        # What is beside the runs has the number of a cell there, which is no kind's word.
        for kind in self._kinds.get(word[0], self._beside) if word else ():
            if match := self._patterns[kind].fullmatch(topic):
                field = match.groupdict()
                return Address(field.pop("run", ""), kind, field)
        raise BadMessage(Reason.UNKNOWN_TOPIC, topic[:200])

    def is_retained_clear(self, topic: str, payload: bytes) -> bool:
        """Say whether this only removed what was retained: an empty payload, retained."""
        try:
            return not payload and CHANNELS[self.parse(topic).kind].retain
        except BadMessage:
            return False


def _pattern(root: str, channel: Channel) -> re.Pattern[str]:
    """Turn ``history/{version}`` into a pattern with the groups ``run`` and ``version``."""
    fields = {"agent": NAME.pattern, "run": NAME.pattern}
    topic = channel.topic if channel.beside else f"{{run}}/{channel.topic}"
    body = re.sub(
        r"{(\w+)}",
        lambda m: f"(?P<{m[1]}>{fields.get(m[1], VERSION.pattern)})",
        topic.replace(".", r"\."),
    )
    return re.compile(f"{re.escape(root)}/{body}")


@cache
def below(root: str) -> Topics:
    """Return the topics below a root, which are compiled once."""
    return Topics(root)


USUAL = below(ROOT)
"""Those that we use where nobody chose another root."""
