"""A group whose masked updates stay in a cell: what it is asked for, and what is believed of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.secure_group import SecureGroup, some_updates

from fedjury.protocol.cells import GroupSum
from fedjury.protocol.messages import Reason
from fedjury.secure.fixed_point import packed, packed_size
from fedjury.secure.group import Group, Lost, Step, advance
from fedjury.secure.in_cell import asked, session_of, take


@pytest.fixture
def waiting():
    """Return a group that waits for masked updates, and its terms."""
    whole = SecureGroup(some_updates()).until(Step.UPDATES)
    return replace(whole.group, cell=2), whole.terms


def said(group, came, life=5, data=b""):
    """Return what a cell says of whom it has an update, a bit for each of the sharers."""
    size = -(-len(group.shares) // 8)
    bits = sum(1 << place for place in came).to_bytes(size, "little")
    return GroupSum(2, life, *group.turn, group.number, session_of(group), bits, data)


def all_of(group):
    return range(len(group.shares))


def test_survivors_are_fixed_before_a_sum_is_asked_for(waiting):
    """First who may send, then of whom the sum is: of all but the first, who has not come."""
    group, terms = waiting
    assert asked(group).survivors == b""
    assert asked(group).names.split(" ") == sorted(group.shares)
    summing = advance(take(group, said(group, [*all_of(group)][1:])), terms, 1.0)
    assert summing.step is Step.SUM
    n = len(group.shares)
    assert asked(summing).survivors == (2**n - 2).to_bytes(-(-n // 8), "little")
    later = take(summing, said(summing, all_of(summing)))
    assert asked(later) == asked(summing)


def test_masks_are_undone_only_once_the_sum_has_come(waiting):
    group, terms = waiting
    summing = advance(take(group, said(group, all_of(group))), terms, 1.0)
    assert not summing.complete
    zeros = summing.fixed.encode(np.zeros(summing.length - 1, np.float32), 1.0)
    numbers = packed(zeros, summing.fixed.bits)
    with_sum = take(summing, said(summing, all_of(summing), data=numbers))
    assert with_sum.complete
    assert advance(with_sum, terms, 1.0).step is Step.UNMASK
    late = advance(summing, terms, 1.0)
    assert late.why == "cell 2 has not added up its masked updates in time"


def test_what_an_earlier_worker_or_another_attempt_says_changes_nothing(waiting):
    group, _ = waiting
    known = take(group, said(group, [0, 1], life=5))
    for other in (
        said(group, [2], life=4),
        replace(said(group, [2]), session=bytes(32)),
        replace(said(group, [2]), cell=1),
    ):
        assert take(known, other) is known


def test_a_later_worker_has_what_it_says_alone_and_no_sum_of_before(waiting):
    """Before the sum is asked for that is a loss that may be made good; after it the group's."""
    group, terms = waiting
    known = take(group, said(group, all_of(group)))
    again = take(known, said(group, [0], life=6))
    assert isinstance(again, Group)
    assert again.came == {min(group.shares)}
    lost = take(advance(known, terms, 1.0), said(group, all_of(group), life=6))
    assert isinstance(lost, Lost)


def test_what_does_not_fit_is_refused(waiting):
    group, terms = waiting
    odd = replace(said(group, []), came=bytes(-(-len(group.shares) // 8) + 1))
    assert take(group, odd) is Reason.WRONG_LENGTH
    summing = advance(take(group, said(group, all_of(group))), terms, 1.0)
    short = bytes(packed_size(summing.length, summing.fixed.bits) - 1)
    assert take(summing, said(summing, [], data=short)) is Reason.WRONG_LENGTH


def test_other_keys_are_another_session(waiting):
    """The same agents in the same attempt, with other keys: nothing of the one is of the other."""
    group, _ = waiting
    name = group.names[0]
    other = replace(group.keys[name], mask_key=bytes(31) + b"\x09")
    assert session_of(group.but(keys={**group.keys, name: other})) != session_of(group)
