"""A whole group's secure aggregation: exact sums, drop-outs, weights, order, what is not seen."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.secure_group import SecureGroup, chi_square, letters, some_updates

from fedjury.protocol.secure import BOX, SHARE, MaskedUpdate, SecureShares, UnmaskShares
from fedjury.secure import agent
from fedjury.secure.fixed_point import unpacked
from fedjury.secure.group import Lost, Opened, Step, told, without


def is_right(group, members, weights=None):
    """Say whether what was opened is these members' weighted mean, to the rounding."""
    result = group.group
    assert isinstance(result, Opened), result.why
    mean, error = group.clear(members, weights)
    assert np.abs(result.mean - mean).max() <= error
    assert result.members == tuple(members)
    return True


def rest(*gone):
    """Return the twelve without these."""
    return [name for name in letters(12) if name not in "".join(gone)]


# Sums


def test_the_sum_is_the_clear_one():
    """Nobody drops out: the mean of all, the share that was clipped, and nobody is accused."""
    updates = some_updates(12, 40)
    group = SecureGroup(updates, group=3)
    group.run()
    assert is_right(group, letters(12))
    result = group.group
    assert result.clipped == pytest.approx((abs(updates) > 0.5).mean(), abs=1e-3)
    assert (result.number, result.weight, result.wrong) == (3, 12, ())
    assert group.refusals == group.refused == {}


@pytest.mark.parametrize(
    "absent",
    [
        ("abc", "", "", ""),
        ("", "dgl", "", ""),
        ("", "", "bfk", ""),
        ("", "", "", "aei"),
        ("a", "b", "c", "d"),
        ("l", "f", "", "ag"),
    ],
)
def test_drop_outs_at_every_step_are_survived(absent):
    """Those who are gone before their update are not in the sum; all others are, exactly."""
    group = SecureGroup(some_updates(), seed=3)
    group.run(*absent)
    assert is_right(group, rest(*absent[:3]))


@given(st.lists(st.integers(0, 11), max_size=4, unique=True), st.data())
@settings(max_examples=12, deadline=None)
def test_up_to_the_share_whoever_drops_out(gone, data):
    """Of twelve any four may leave, whenever each of them does."""
    at = data.draw(st.lists(st.integers(0, 3), min_size=len(gone), max_size=len(gone)))
    absent = [
        "".join(letters(12)[i] for i, step in zip(gone, at, strict=True) if step == k)
        for k in range(4)
    ]
    group = SecureGroup(some_updates(), seed=len(gone))
    group.run(*absent)
    assert is_right(group, rest(*absent[:3]))


FEW = "too few shares that fit came to undo"
LEFT = "of 12 agents sent {}, and one of them has 2 neighbours left, where 3 are needed"


@pytest.mark.parametrize(
    ("absent", "why"),
    [
        (["cdefghijkl"], "2 of its agents sent keys, 3 are needed"),
        (["", "cdefghijkl"], "2 of 12 agents sent shares, 3 are needed"),
        (["", "abcdefgh"], "4 " + LEFT.format("shares")),
        (["", "", "cdefghijkl"], "2 of 12 agents sent masked updates, 3 are needed"),
        (["", "", "abcdefgh"], "4 " + LEFT.format("masked updates")),
        (["", "", "", "abcdefghij"], f"{FEW} the mask of a"),
        (["", "", "a", "bcdefghijk"], f"{FEW} those towards a, which has left"),
    ],
)
def test_beyond_the_share_a_group_is_lost(absent, why):
    """At whichever step: a sentence says how many were left, and how many it takes."""
    group = SecureGroup(some_updates())
    result = group.run(*absent)
    assert isinstance(result, Lost)
    assert result.why == why
    assert set(result.members) == set(rest(absent[0]))


def test_impossible_terms_lose_the_group():
    """Seven of ten collude and three leave: the reason is that of the parameters."""
    group = SecureGroup(some_updates(10), colluding=0.7, dropping=0.3)
    assert group.step().why.startswith("no secure aggregation of 10 agents stands 7 that collude")
    group = SecureGroup(some_updates(5), value_bits=30)
    assert group.step().why == "sums of 5 values of 30 bits do not fit into 32"


def test_who_has_declined_is_not_waited_for():
    """A step is complete when all have answered who still may; nobody who has answered leaves."""
    group = SecureGroup(some_updates())
    group.answer("ab")
    assert not group.group.complete
    for name in "abc":
        group.group = without(group.group, name)
    assert group.group.complete
    assert group.group.awaited == frozenset("cdefghijkl")


# Weights


@pytest.mark.parametrize(
    ("samples", "largest_weight", "weights"),
    [
        ([5, 5, 5, 5, 5, 5], 1000, [5, 5, 5, 5, 5, 5]),
        ([1, 2, 3, 4, 5, 6], 1000, [1, 2, 3, 4, 5, 6]),
        ([2, 3, 3, 3, 4, 500], 1000, [2, 3, 3, 3, 4, 24]),  # 8 times the median of 3
        ([20, 30, 30, 30, 40, 500], 100, [20, 30, 30, 30, 40, 100]),
        ([0, 0, 0, 0, 7, 9], 1000, [1, 1, 1, 1, 1, 1]),  # without samples: as one with one
    ],
)
def test_weights_are_capped_samples(samples, largest_weight, weights):
    """Samples count in the mean, at most 8 times the group's median and what settings allow."""
    group = SecureGroup(some_updates(6), samples, largest_weight=largest_weight)
    group.run()
    assert is_right(group, letters(6), weights)
    assert group.group.weight == sum(weights)


def test_weights_stay_though_the_heaviest_drops_out():
    """Shares are of the largest weight of all who sent keys; the mean is of those who stay."""
    group = SecureGroup(some_updates(6), [4, 4, 4, 4, 4, 20], colluding=0.2, dropping=0.2)
    group.run("", "", "f")
    result = group.group
    mean, _ = group.clear("abcde")
    assert result.members == tuple("abcde")
    assert np.abs(result.mean - mean).max() <= 0.5 / 16383 * 5 + 1e-7  # a fifth of the largest each


# The same bits


def test_the_order_of_messages_changes_nothing():
    """Forwards, backwards and mixed, with drop-outs: the same model, bit for bit."""
    results = []
    for order in (
        list,
        lambda names: names[::-1],
        lambda names: sorted(names, key=lambda name: ord(name) * 7 % 12),
    ):
        group = SecureGroup(some_updates(12, 30), seed=5, order=order)
        results.append(group.run("a", "b", "c", "d").mean.tobytes())
    assert len(set(results)) == 1


def test_other_secrets_change_no_sum():
    """Keys, masks and neighbours differ, what is sent differs, the sum is the same, bit for bit."""
    one, two = (SecureGroup(some_updates(12, 30), seed=seed) for seed in (1, 2))
    assert one.run().mean.tobytes() == two.run().mean.tobytes()
    data = [group.sent["MaskedUpdate"]["a"].data for group in (one, two)]
    assert data[0] != data[1]


def test_the_same_secrets_make_the_same_messages():
    """From a fixed source all that is said is the same, byte for byte."""
    one, two = (SecureGroup(some_updates(), seed=1) for _ in range(2))
    assert one.run("", "b").mean.tobytes() == two.run("", "b").mean.tobytes()
    assert one.sent == two.sent


# Members who send something else


def changed(sender, kind, change):
    """Return how one member's messages of one kind are changed."""
    return lambda m: change(m) if m.agent in sender and isinstance(m, kind) else m


def wrong_shares(message):
    """Return an answer with the last number of each share wrong: it restores another secret."""
    data = bytes(byte ^ (i % SHARE == SHARE - 4) for i, byte in enumerate(message.shares))
    return UnmaskShares(message.agent, message.round, message.attempt, data)


@pytest.mark.parametrize("liars", ["c", "bk", "adgj", "bdfhj"])
@pytest.mark.parametrize("gone", ["", "e"])
def test_wrong_shares_are_found_out(liars, gone):
    """The sum is exact all the same, and nobody is named but liars: all, unless they are many."""
    group = SecureGroup(some_updates(), seed=8, hostile=changed(liars, UnmaskShares, wrong_shares))
    group.run("", "", gone)
    assert is_right(group, rest(gone))
    assert group.group.wrong == tuple(liars) or (
        len(liars) > 2 and set(group.group.wrong) < {*liars}
    )


def test_too_many_wrong_shares_lose_the_group():
    """Of most agents' eight neighbours fewer than three are honest: masks cannot be undone."""
    liars = "cdefghijkl"
    group = SecureGroup(some_updates(), hostile=changed(liars, UnmaskShares, wrong_shares))
    assert group.run().why.startswith(f"{FEW} the mask of")


def broken_boxes(count):
    """Return what breaks the first boxes that a member sends."""

    def change(message):
        data = bytearray(message.boxes)
        for i in range(count):
            data[i * BOX + 20] ^= 1
        return SecureShares(
            message.agent, message.round, message.attempt, message.commitment, bytes(data)
        )

    return change


def test_boxes_that_do_not_open_cost_nothing():
    """Two members break five of their eight boxes each: three shares of each are enough."""
    group = SecureGroup(
        some_updates(), seed=2, hostile=changed("dh", SecureShares, broken_boxes(5))
    )
    group.run()
    assert is_right(group, letters(12))
    assert group.refusals == {}


def test_whose_boxes_do_not_open_loses_the_group_and_is_named():
    """Six of eight boxes of one member are broken: its mask can be undone by two, of three."""
    hostile = changed("d", SecureShares, broken_boxes(6))
    result = SecureGroup(some_updates(), hostile=hostile).run()
    assert result.why == f"{FEW} the mask of d"


def test_one_member_cannot_leave_the_box():
    """Whatever numbers it sends, the group's mean stays within the clip; the others are in it."""

    def largest(message):
        data = bytes([255]) * len(message.data)
        return MaskedUpdate(message.agent, message.round, message.attempt, message.version, data)

    for seed in range(3):
        group = SecureGroup(some_updates(), seed=seed, hostile=changed("f", MaskedUpdate, largest))
        assert np.abs(group.run().mean).max() <= 0.5


# What the aggregator sees


@pytest.fixture(scope="module")
def numbers():
    """Return the masked numbers (n, d + 1) of seven members, all of whose updates are zeros."""
    group = SecureGroup(np.zeros((7, 20_000))).until(Step.UPDATES)
    group.answer()
    bits = group.group.fixed.bits
    sent = group.sent["MaskedUpdate"].values()
    return bits, np.array([unpacked(one.data, 20_001, bits).astype(int) for one in sent])


def test_masked_updates_look_uniform(numbers):
    """Highest and lowest eight bits of each member's numbers are as even as those of chance."""
    bits, rows = numbers
    for row, lowest in product(rows, (0, bits - 8)):
        assert abs(chi_square(row >> lowest & 255, 256)) < 4.5


@pytest.mark.parametrize("subset", [[0, 1], [2, 4, 6], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 6]])
def test_sums_of_some_look_uniform(numbers, subset):
    """Of some members, or of all before their own masks are undone: nothing is seen of a sum."""
    bits, rows = numbers
    total = rows[subset].sum(axis=0) % 2**bits
    for lowest in (0, bits - 8):
        assert abs(chi_square(total >> lowest & 255, 256)) < 4.5


def test_no_two_members_send_the_same_mask(numbers):
    """Numbers of two members agree as often as chance has it: hardly ever, with so many bits."""
    _, rows = numbers
    for i, j in product(range(7), repeat=2):
        if i < j:
            assert (rows[i] == rows[j]).sum() < 10


# Whole numbers


def test_whole_numbers_are_summed_as_they_are():
    """Of four, one leaves before it has sent its own: 1 + 3 + 5, 10 + 0 + 7, 2 + 2 + 2."""
    counts = [[1, 10, 2], [3, 0, 2], [9, 9, 9], [5, 7, 2]]
    group = SecureGroup(counts, [10, 20, 30, 12], value_bits=0).until(Step.UPDATES)
    assert group.run("c").counts.tolist() == [9, 17, 6]


def test_a_sum_of_whole_numbers_is_as_wide_as_its_owners_samples():
    """Of twelve who hold 200 at the most: 8 bits for one, 4 more for twelve, so 12."""
    group = SecureGroup(np.full((12, 2), 200), [200] * 12, value_bits=0).until(Step.UPDATES)
    assert group.group.fixed.bits == 12
    assert group.run().counts.tolist() == [2400, 2400]


def test_nobody_counts_more_than_its_samples_or_than_eight_times_the_usual():
    """Samples of 10, 10, 10 and 1,000: the last one weighs 80, and no count of it is larger."""
    group = SecureGroup([[1], [1], [1], [900]], [10, 10, 10, 1000], value_bits=0)
    assert group.run().counts.tolist() == [83]


def test_counts_that_are_too_few_or_negative_are_not_sent():
    group = SecureGroup(np.ones((4, 3)), value_bits=0).until(Step.UPDATES)
    masked = agent.add_masks(group.agents["a"], told(group.group, "a"), 3)
    for wrong in ([1, 1], [1, 1, -1]):
        with pytest.raises(ValueError, match="counts"):
            agent.masked_counts(masked, 7, np.array(wrong))


# Hidden weights


def test_nobody_is_told_a_hidden_weight_and_it_counts():
    """Samples of 40, 20, 20 and 500, of which 80 count: (40 x 1 + 20 x 2 + 20 x 3 + 80 x 4) / 160.

    In units of .1: 2.875.
    """
    updates = np.array([[0.1], [0.2], [0.3], [0.4]])
    group = SecureGroup(updates, [40, 20, 20, 500], hidden=80)
    result = group.run()
    assert {keys.samples for keys in group.sent["SecureKeys"].values()} == {0}
    assert (result.weight, result.largest) == (160, 80)
    assert result.mean == pytest.approx([0.2875], abs=1e-3)


def test_weights_that_are_told_though_they_are_hidden_are_refused():
    """A server that wants to weigh one more than another, of whose samples it knows nothing."""
    group = SecureGroup(np.zeros((4, 1)), [40] * 4, hidden=80).until(Step.SHARES)
    peers = replace(told(group.group, "a"), weight=40, largest=80)
    with pytest.raises(agent.Refusal, match="weights are told, though samples are hidden"):
        agent.share(group.agents["a"], peers, None, agent.Least(), group.random["a"])
