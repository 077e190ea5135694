"""Groups that stay together over a run: who is in one, who sits out, which are selected."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.aggregator.durable_files import StoreError
from fedjury.aggregator.sums_file import packed, unpacked
from fedjury.config.section import SettingsError
from fedjury.config.settings import load
from fedjury.randomness import Purpose, draw_groups, stream
from fedjury.round.sums import NO_SUMS, FixedGroups, OpenedSum, OpenedSums, fixed_groups


def pairs(names):
    """Draw groups of two, the last of three: in the order of names."""
    return draw_groups(names, 2, NotDrawn())


class NotDrawn:
    """A generator that leaves everybody in place."""

    def permutation(self, count):
        """Return all places in order."""
        return list(range(count))


def opened(*groups):
    return [OpenedSum(tuple(group), tuple(group)) for group in groups]


@pytest.mark.parametrize(
    ("there", "sums", "whole", "apart"),
    [
        ("abcd", [], ["ab", "cd"], []),  # nobody was in a sum: all are drawn
        ("abcd", ["ad", "bc"], ["ad", "bc"], []),  # the same as before, not as they are drawn now
        ("abc", ["ad", "bc"], ["bc"], ["ad"]),  # a's group sits out as a whole
        ("abcdx", ["ad", "bc"], ["ad", "bc"], []),  # who comes late waits for another
        ("abcdxy", ["ad", "bc"], ["ad", "bc", "xy"], []),
        ("axy", ["ad", "bc"], ["xy"], ["ad", "bc"]),  # nobody's place is taken
        ("a", [], [], []),  # fewer than two are no group
    ],
)
def test_who_was_in_a_sum_is_only_ever_summed_with_the_same(there, sums, whole, apart):
    """By hand, in groups of two: whole groups, new ones of the free, and those that sit out."""
    found = fixed_groups(there, opened(*sums), 2, pairs)
    assert found == FixedGroups([*map(tuple, whole)], [*map(tuple, apart)])


def test_whose_sum_lacked_somebody_sits_out():
    """A sum of a and b, without c: a and b are in no other; c, who was in none, is free."""
    sums = [OpenedSum(tuple("abc"), tuple("ab"))]
    assert fixed_groups("abcd", sums, 2, pairs) == FixedGroups([("c", "d")], [])


MASK = st.integers(1, 2**20 - 1)
"""Some of twenty, a bit each."""


@given(st.lists(st.tuples(MASK, MASK), min_size=1, max_size=12), st.integers(2, 6))
def test_over_a_run_sums_are_equal_or_have_nobody_in_common(rounds, size):
    """Whoever is there in a round, and whichever of the groups are opened."""
    sums = NO_SUMS
    for number, (online, opens) in enumerate(rounds, 1):
        names = [f"agent-{n:02}" for n in range(20) if online >> n & 1]
        rng = stream(0, Purpose.GROUPS, number)
        found = fixed_groups(names, sums.ever, size, lambda free, r=rng: draw_groups(free, size, r))
        for place, group in enumerate(found.whole):
            assert set(group) <= set(names)
            assert len(group) >= size
            if opens >> place & 1:
                one = OpenedSum(group, group)
                sums = sums.with_sum(number, 1, bytes([number]), one, stays=True)
    for one in sums.ever:
        for other in sums.ever:
            assert one == other or set(one.members).isdisjoint(other.members)


def test_sums_of_a_whole_run_are_kept_each_once():
    """Three rounds, each with its own base: both groups are kept once, whatever the base."""
    one, other = opened("ab", "cd")
    sums = NO_SUMS
    for number in (1, 2, 3, 4):
        sums = sums.with_sum(number, 1, bytes([number]), one, stays=True)
    sums = sums.with_sum(5, 2, b"5", other, stays=True)
    assert sums.ever == (one, other)
    assert (sums.round, sums.attempt, len(sums.bases)) == (5, 2, 5)
    assert sums.with_sum(6, 1, b"6", OpenedSum(("e",), ("e",))).ever == (one, other)


def test_they_are_on_disk_and_an_older_file_has_none(tmp_path):
    """What is written is read; a file without them is one of groups that change."""
    file = tmp_path / "sums.json"
    sums = NO_SUMS.with_sum(3, 2, b"base", opened("ab")[0], stays=True)
    file.write_bytes(packed(sums))
    assert unpacked(file) == sums
    content = json.loads(file.read_bytes())
    del content["ever"]
    file.write_text(json.dumps(content))
    assert unpacked(file) == OpenedSums(3, 2, sums.bases)
    file.write_text(json.dumps(content | {"ever": [{"members": ["a"]}]}))
    with pytest.raises(StoreError, match=r"sums\.json"):
        unpacked(file)


FIXED = {"groups.secure": True, "groups.size": 5, "groups.fixed": True, "agents.n": 20}
VOTED = {"validation.on": "groups", "detection.detectors": ["group_testing"]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"groups.secure": False},
            "groups.fixed = True must be false without groups.secure, where",
        ),
        ({"groups.size": 0}, "groups.size = 0 must be 3 and more with groups.fixed, as a group of"),
        ({"groups.size": 21}, r"groups.size = 21 must be 0 to the agents that a round calls \(20"),
        ({"sampling.most": 10}, "sampling.most = 10 must be 0 with groups.fixed, as whole groups"),
        (
            {"validation.piggy_back": True},
            "validation.piggy_back = True must be false with groups.fixed, as whoever votes",
        ),
        (VOTED, "groups.fixed = True must be false with the detector group_testing, which goes by"),
    ],
)
def test_what_groups_that_stay_do_not_go_with_is_refused(change, words):
    """In one sentence, before anything is trained."""
    assert load(overrides=FIXED).groups.fixed
    with pytest.raises(SettingsError, match=words):
        load(overrides=FIXED | change)
