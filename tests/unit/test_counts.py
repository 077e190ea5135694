"""Error counts on the wire: as few bytes as they need, and nothing that is none."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.protocol.checks import Limits
from fedjury.protocol.codec import LEFT_OUT, SMALL, decode, encode
from fedjury.protocol.counts import packed, unpacked
from fedjury.protocol.messages import MAX_COUNT, BadMessage, Manifest, Reason, Update, Vote
from fedjury.protocol.topics import USUAL

ASKED = Limits(counts=6)
MESSAGES = (
    Vote("ann", 7, 1, poisoned=True, score=1.5, threshold=1.25, samples=4),
    Update("ann", 7, 3, 4, np.zeros(2, np.float32)),
)


@given(st.lists(st.integers(0, MAX_COUNT), max_size=9))
def test_counts_come_back(numbers):
    """Whatever they are, in one, two or four bytes each and one byte that says so."""
    content = packed(np.array(numbers, np.int64))
    assert unpacked(content).tolist() == numbers
    most = max(numbers, default=0)
    width = 1 if most < 256 else 2 if most < 65536 else 4
    assert len(content) == (1 + width * len(numbers) if numbers else 0)


@pytest.mark.parametrize("numbers", [[-1], [MAX_COUNT + 1], [3, -2]])
def test_what_is_no_count_is_not_written(numbers):
    """A count is a whole number from 0 on."""
    with pytest.raises(ValueError, match="not 0 to 2147483647"):
        packed(np.array(numbers))


def received(message, counts, limits=ASKED):
    """Send a message with these bytes for counts, and read it."""
    content = msgpack.unpackb(encode(message)) | {"counts": counts}
    return decode(USUAL.of("run", message), msgpack.packb(content), limits)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_votes_and_updates_carry_counts(message):
    """As many as are asked for; where none are they are skipped, as an older reader does."""
    six = packed(np.array([1, 2, 300, 4, 5, 6]))
    sent = encode(replace(message, counts=six))
    assert decode(USUAL.of("run", message), sent, ASKED).counts == six
    assert received(message, six, Limits()).counts == b""
    assert received(message, b"").counts == b""


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ("text", Reason.WRONG_TYPE),
        (7, Reason.WRONG_TYPE),
        (packed(np.arange(7)), Reason.WRONG_LENGTH),
        (packed(np.arange(7) + MAX_COUNT - 7), Reason.OUT_OF_RANGE),
        (b"\x03abc", Reason.OUT_OF_RANGE),
        (b"\x00", Reason.OUT_OF_RANGE),
        (b"\x02abc", Reason.OUT_OF_RANGE),
        (b"\x04\xff\xff\xff\xff", Reason.OUT_OF_RANGE),
        (b"\x01" + bytes(99), Reason.OUT_OF_RANGE),
    ],
    ids=repr,
)
def test_what_holds_no_counts_is_refused(message, counts, reason):
    """Another type, too many, an odd width, half a number, more than there can be."""
    with pytest.raises(BadMessage) as caught:
        received(message, counts)
    assert caught.value.reason is reason


@given(st.binary(max_size=40))
def test_any_bytes_are_counts_or_none(content):
    """Reading raises nothing else, and what is read holds no more than was asked for."""
    try:
        message = received(MESSAGES[0], content)
    except BadMessage:
        return
    counts = unpacked(message.counts)
    assert len(counts) <= 6
    assert not counts.size or 0 <= counts.min() <= counts.max() <= MAX_COUNT


def test_a_vote_may_be_longer_only_where_counts_are_asked_for():
    """A thousand bytes, and four for each number."""
    vote = replace(MESSAGES[0], counts=b"\x04" + bytes(4 * 300))
    where, payload = USUAL.of("run", vote), encode(vote)
    assert decode(where, payload, Limits(counts=300)) == vote
    with pytest.raises(BadMessage) as caught:
        decode(where, payload, Limits())
    assert len(payload) > SMALL
    assert caught.value.reason is Reason.TOO_LARGE


def test_nothing_is_written_where_nothing_is_asked_for():
    """Messages of a run without pooled counts have the bytes that they always had."""
    for message in MESSAGES:
        assert b"counts" not in encode(message)
    assert "counts" in LEFT_OUT[Manifest]
