"""Any topic, as a broker delivers it."""

from __future__ import annotations

from fedjury.protocol.messages import BadMessage, Reason
from fedjury.protocol.topics import CHANNELS, NAME, ROOT, USUAL
from tools.fuzz.examples import MESSAGES
from tools.fuzz.target import Target, tried


def one(data: bytes) -> None:
    """Read a topic; what is read must say all that the topic does."""
    topic = data.decode(errors="replace")
    silent = USUAL.is_retained_clear(topic, b"")
    assert not USUAL.is_retained_clear(topic, b"x")
    result = tried(lambda: USUAL.parse(topic), BadMessage)
    if isinstance(result, BadMessage):
        assert result.reason is Reason.UNKNOWN_TOPIC
        assert str(result).isprintable()
        assert not silent
        return
    run, kind, field = result
    assert silent == CHANNELS[kind].retain
    channel = CHANNELS[kind]
    assert NAME.fullmatch(run) or (channel.beside and "{run}" not in channel.topic and not run)
    base = ROOT if channel.beside else f"{channel.root or ROOT}/{run}"
    assert topic == f"{base}/{channel.topic.format_map(field | {'run': run})}"


def seeds() -> list[bytes]:
    """Return a topic of every kind."""
    return [USUAL.of("run", message).encode() for message in MESSAGES]


WORDS = (
    b"fl/v2/",
    b"fl/v1/",
    b"update/",
    b"collusion/update/",
    b"history/",
    b"log/round",
    b"agent/",
    b".cells/",
    b"/link",
    b"vote/",
    b"group/",
    b"group-vote/",
    b"group-history/",
    b"secure/",
    b"secure/keys/",
    b"unmask/",
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
