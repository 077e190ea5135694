"""Any payload on every topic, before the model is known and after: ``[kind, limits, payload...]``.

What is let in must be what the protocol says, to the last key: the rest of the program looks at
nothing again.
"""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np

from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import decode, encode
from fedjury.protocol.compression import CODECS
from fedjury.protocol.messages import (
    LOGS,
    MAX_COUNT,
    BadMessage,
    GroupVotes,
    Message,
    Phase,
    Reason,
    Update,
)
from fedjury.protocol.schema import SCHEMA
from fedjury.protocol.secure import BOX, KEY, SHARE, SecureDown, SecureUp
from fedjury.protocol.topics import USUAL
from tools.fuzz.examples import MESSAGES, PARAMETERS, parts
from tools.fuzz.target import Target, tried

LIMITS = (
    Limits(size=100_000),
    Limits(PARAMETERS),
    Limits(PARAMETERS, size=400, finite=False),
)
TOPICS = tuple(USUAL.of("run", message) for message in MESSAGES)
KINDS = tuple(map(type, MESSAGES))
PIECES = {
    "mask_key": KEY,
    "box_key": KEY,
    "roster": KEY,
    "commitment": KEY,
    "mask_keys": KEY,
    "box_keys": KEY,
    "boxes": BOX,
    "shares": SHARE,
    "places": 4,
}
"""Fields with bytes -> of how many each piece has."""
OF_THE_ROUND = {
    Reason.WRONG_PHASE,
    Reason.WRONG_ROUND,
    Reason.WRONG_VERSION,
    Reason.NOT_SELECTED,
    Reason.DUPLICATE,
    Reason.TOO_MANY,
    Reason.WRONG_GROUPS,
    Reason.BAD_KEY,
    Reason.WRONG_SHARE,
}


def one(data: bytes) -> None:
    """Decode a payload."""
    if len(data) < 2:
        return
    kind, limits = data[0] % len(TOPICS), LIMITS[data[1] % len(LIMITS)]
    read(kind, data[2:], limits)


def read(kind: int, payload: bytes, limits: Limits) -> Message | BadMessage:
    """Decode a payload on a kind's topic, and check what comes of it."""
    message = tried(lambda: decode(TOPICS[kind], payload, limits), BadMessage)
    if isinstance(message, BadMessage):
        check_refusal(kind, message)
        return message
    assert type(message) is KINDS[kind]
    if isinstance(message, LOGS):
        check_record(kind, message)
    else:
        if isinstance(message, GroupVotes):
            check_group_votes(message)
        elif isinstance(message, SecureUp | SecureDown):
            check_secure(message)
        else:
            for value in parts(message):
                check(value, limits)
        check_again(kind, message, limits)
    return message


def check_record(kind: int, message: Message) -> None:
    """Check that a record, written and read again, stays the same from then on."""
    once = decode(TOPICS[kind], encode(message), Limits())
    assert decode(TOPICS[kind], encode(once), Limits()) == once


def check_refusal(kind: int, bad: BadMessage) -> None:
    """Check that a refusal has a reason, can be printed, and says who sent what."""
    assert bad.reason not in OF_THE_ROUND
    assert str(bad).isascii()
    assert str(bad).isprintable()
    assert len(str(bad)) < 1000
    assert bad.kind is KINDS[kind]
    assert bad.agent == ("ann" if TOPICS[kind].endswith("/ann") else "")


def check(value: object, limits: Limits) -> None:
    """Check one value of a message."""
    if isinstance(value, np.ndarray):
        assert value.dtype == np.float32
        assert not value.flags.writeable
        assert limits.parameters is None or len(value) in (0, limits.parameters)
        assert not limits.finite or np.isfinite(value).all()
    elif type(value) is int:
        assert 0 <= value <= MAX_COUNT
    elif type(value) is float:
        assert -1e308 <= value <= 1e308
    elif type(value) is bytes:
        assert np.isfinite(np.frombuffer(value, "<f4")).all()
    else:
        assert value is None or isinstance(value, str | bool | tuple | dict)


def check_group_votes(said: GroupVotes) -> None:
    """Check that votes on groups can be read as one vote on each of some groups, in order."""
    votes = said.votes()
    assert votes
    assert list(votes) == sorted(votes) == list(said.numbers)
    assert set(said.poisoned) <= {0, 1}
    for vote in votes.values():
        assert -1e308 <= vote.score <= 1e308
        assert -1e308 <= vote.threshold <= 1e308
    assert all(0 <= number <= MAX_COUNT for number in (said.samples, said.size, said.cpu))


def check_secure(said: SecureUp | SecureDown) -> None:
    """Check that pieces are whole, and numbers small."""
    for field in fields(said):
        value = getattr(said, field.name)
        assert len(value) % PIECES.get(field.name, 1) == 0 if isinstance(value, bytes) else True
        assert 0 <= value <= MAX_COUNT if type(value) is int else True
        assert -1e308 <= value <= 1e308 if type(value) is float else True


def check_again(kind: int, message: Message, limits: Limits) -> None:
    """Check that a message, written again, is read as the same."""
    again = decode(TOPICS[kind], encode(message), limits._replace(size=1_000_000))
    for mine, theirs in zip(parts(message), parts(again), strict=True):
        if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
            assert mine.tobytes() == theirs.tobytes()
        else:
            assert mine == theirs


def seeds() -> list[bytes]:
    """Return every kind under all limits, and updates in every codec."""
    result = [
        bytes([kind, limits]) + encode(message)
        for kind, message in enumerate(MESSAGES)
        for limits in range(len(LIMITS))
    ]
    updates = [(kind, m) for kind, m in enumerate(MESSAGES) if isinstance(m, Update)]
    return result + [bytes([k, 1]) + encode(m, codec) for k, m in updates for codec in CODECS]


def words() -> tuple[bytes, ...]:
    """Return the keys and names of the protocol, as both formats write them."""
    keys = {key for checks in SCHEMA.values() for key in checks} | {"codec", "n", "data"}
    names = sorted(keys | set(CODECS) | {phase.value for phase in Phase} | {"all", "ann"})
    packed = [bytes([0xA0 + len(name)]) + name.encode() for name in names if len(name) < 32]
    return (
        *packed,
        *(json.dumps(name).encode() for name in names),
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x28\xb5\x2f\xfd",
        b"NaN",
        b"1e999",
        b"\xcb\x7f\xf0\0\0\0\0\0\0",
        b"\xca\x7f\xc0\0\0",
    )


TARGET = Target(one, seeds, head=2, words=words())
