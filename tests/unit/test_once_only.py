"""Warnings about a connection, and the messages that the broker dropped."""

from __future__ import annotations

import pytest

from fedjury.protocol.transport.once_only import WAITING, Drops, OnceOnlyWarnings


def test_of_a_kind_one_is_told():
    """A thousand wrong passwords are one sentence, also when it has been read long ago."""
    notices = OnceOnlyWarnings()
    for number in range(1000):
        notices.add(f"agent-{number} is not let in", "password")
        notices.add(f"agent-{number} is denied", "denied")
    assert notices.take() == ["agent-0 is not let in", "agent-0 is denied"]
    assert notices.take() == []
    notices.add("agent-7 is not let in", "password")
    notices.add("another word", "other")
    assert notices.take() == ["another word"]


def test_notices_are_bounded():
    """A broker that invents reasons without end fills no memory."""
    notices = OnceOnlyWarnings()
    for number in range(10 * WAITING):
        notices.add("x" * 100, f"reason {number}")
    assert len(notices.take()) == WAITING
    notices.add("x", "one more")
    assert notices.take() == []
    assert len(notices._known) == WAITING


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        ([], 0),
        ([b"70"], 0),  # before we looked
        ([b"70", b"70", b"75", b"76"], 6),
        ([b"0", b"3"], 3),
        ([b"70", b"80", b"4"], 14),  # the broker was restarted, and dropped four since
        ([b"70", b"80", b"0", b"0", b"2"], 12),
        ([b"70", b"", b"-3", b"7.5", b"1e9", b" 8", "\u0664".encode(), b"9" * 19, b"71"], 1),
        ([bytearray(b"1"), bytearray(b"5")], 4),
    ],
)
def test_drops_are_what_came_on_top_of_the_first_count(counts, total):
    """The first count is the baseline, a smaller one a broker that began again, garbage nothing."""
    drops = Drops()
    for count in counts:
        drops.on_message(count)
    assert drops.total == total
