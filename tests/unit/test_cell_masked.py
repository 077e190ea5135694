"""What a cell has of masked updates: one sum of a group, exact, and of one set of agents alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedjury.cells.masked import MaskedGroups
from fedjury.protocol.cells import GroupSumRequest
from fedjury.protocol.messages import Reason
from fedjury.protocol.secure import MaskedUpdate
from fedjury.secure.fixed_point import packed, unpacked

ASKED = GroupSumRequest(2, 7, 1, 4, bytes(32), 3, 3, 8, "ann bob cy")
"""Group 4 of cell 2: three numbers of eight bits from each of three agents."""
ANN_AND_CY, ALL = b"\5", b"\7"
SENT = {"ann": [250, 1, 2], "bob": [9, 9, 9], "cy": [10, 3, 255]}


def masked(name, **changes):
    numbers = np.array(SENT[name], np.uint32)
    return replace(MaskedUpdate(name, 7, 1, 3, packed(numbers, 8)), **changes)


def cell_with(*names):
    """Return a cell that was asked for a group's updates and has those of these."""
    groups = MaskedGroups((7, 1))
    groups.ask(ASKED)
    assert [groups.take(masked(name)) for name in names] == [None] * len(names)
    return groups


def told(groups):
    return groups.next(2, 5)


def test_who_has_come_is_told_once_until_there_is_news():
    """A bit for each name, the first name's the least."""
    groups = cell_with("ann", "cy")
    said = told(groups)
    assert (said.group, said.came, said.data) == (4, b"\5", b"")
    assert told(groups) is None
    groups.take(masked("bob"))
    assert told(groups).came == b"\7"


def test_the_sum_is_of_the_survivors_alone_modulo_the_bits():
    """250 + 10 = 260 is 4 modulo 256, 1 + 3 = 4, 2 + 255 is 1; bob's nines are not in it."""
    groups = cell_with("bob", "cy", "ann")
    groups.ask(replace(ASKED, survivors=ANN_AND_CY))
    said = told(groups)
    assert unpacked(said.data, 3, 8).tolist() == [4, 4, 1]
    assert said.came == b"\7"


def test_a_sum_of_others_is_never_told():
    """Their difference would be a single agent's: the first answer stands, asked as one likes."""
    groups = cell_with("ann", "bob", "cy")
    groups.ask(replace(ASKED, survivors=ANN_AND_CY))
    first = told(groups)
    for survivors in (ALL, b"", ANN_AND_CY):
        groups.ask(replace(ASKED, survivors=survivors))
        assert told(groups) == first
    assert groups.take(masked("bob", data=bytes(4))) is Reason.WRONG_PHASE


@pytest.mark.parametrize("survivors", [ALL, b"\0", b"\7\0", b"\x0f\0"])
def test_a_sum_that_needs_who_has_not_come_is_not_told(survivors):
    """Nor is one where the bits are not as many as the names: and it may still be asked rightly."""
    groups = cell_with("ann", "cy")
    groups.ask(replace(ASKED, survivors=survivors))
    assert told(groups).data == b""
    groups.ask(replace(ASKED, survivors=ANN_AND_CY))
    assert unpacked(told(groups).data, 3, 8).tolist() == [4, 4, 1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"round": 6}, Reason.WRONG_ROUND),
        ({"attempt": 2}, Reason.WRONG_ROUND),
        ({"agent": "eve"}, Reason.NOT_SELECTED),
        ({"version": 2}, Reason.WRONG_VERSION),
        ({"data": bytes(5)}, Reason.WRONG_LENGTH),
        ({"data": b""}, Reason.WRONG_LENGTH),
    ],
)
def test_what_nobody_asked_for_is_refused_with_a_reason(changes, why):
    groups = cell_with()
    assert groups.take(masked("ann", **changes)) is why
    assert told(groups).came == b"\0"


@pytest.mark.parametrize("other", [{"length": 10**9}, {"bits": 16}, {"names": "ann cy"}])
def test_a_sum_on_other_terms_than_updates_were_asked_on_is_not_told(other):
    """As a stranger at a broker without logins might ask; it ends no worker."""
    groups = cell_with("ann", "cy")
    groups.ask(replace(ASKED, survivors=ANN_AND_CY, **other))
    assert told(groups).data == b""


def test_the_first_update_counts_and_the_same_once_more_is_no_fault():
    """Whoever is asked again says the same; another one is a duplicate."""
    groups = cell_with("ann", "cy")
    assert groups.take(masked("ann")) is None
    assert groups.take(masked("ann", data=bytes(4))) is Reason.DUPLICATE
    groups.ask(replace(ASKED, survivors=ANN_AND_CY))
    assert unpacked(told(groups).data, 3, 8).tolist() == [4, 4, 1]


def test_other_masks_begin_again():
    """An aggregator that was restarted may say the same round and attempt: with other keys."""
    groups = cell_with("ann", "bob", "cy")
    others = replace(ASKED, session=b"\1" * 32)
    groups.ask(replace(others, survivors=ALL))
    said = told(groups)
    assert (said.session, said.came, said.data) == (others.session, b"\0", b"")
    groups.take(masked("bob"))
    assert told(groups).came == b"\2"


def test_a_request_of_another_attempt_changes_nothing():
    groups = MaskedGroups((7, 2))
    groups.ask(ASKED)
    assert told(groups) is None
    assert groups.take(masked("ann", attempt=2)) is Reason.NOT_SELECTED
