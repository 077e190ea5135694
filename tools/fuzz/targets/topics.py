"""Any topic, as a broker delivers it."""

from __future__ import annotations

from fedjury.protocol.messages import BadMessage, Reason
from fedjury.protocol.topics import CHANNELS, NAME, ROOT, parse, says_nothing, topic_of
from tools.fuzz.examples import MESSAGES
from tools.fuzz.target import Target, tried


def one(data: bytes) -> None:
    """Read a topic; what is read must say all that the topic does."""
    topic = data.decode(errors="replace")
    silent = says_nothing(topic, b"")
    assert not says_nothing(topic, b"x")
    found = tried(lambda: parse(topic), BadMessage)
    if isinstance(found, BadMessage):
        assert found.reason is Reason.UNKNOWN_TOPIC
        assert str(found).isprintable()
        assert not silent
        return
    run, kind, field = found
    assert silent == CHANNELS[kind].retain
    assert NAME.fullmatch(run)
    assert topic == f"{ROOT}/{run}/{CHANNELS[kind].topic.format_map(field)}"


def seeds() -> list[bytes]:
    """Return a topic of every kind."""
    return [topic_of("run", message).encode() for message in MESSAGES]


WORDS = (
    b"fl/v1/",
    b"update/",
    b"collusion/report/",
    b"history/",
    b"log/round",
    b"agent/",
    b"vote/",
    b"/",
    b"+",
    b"#",
    b"$SYS/",
    b"0",
    b"9999999999",
    b"\n",
    b"\0",
    "é".encode(),
)

TARGET = Target(one, seeds, longest=256, words=WORDS)
