"""The attack of least squares over rounds: what can be solved for, and what cannot."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury.experiments.papers.leak_attack import Equations, cosines, told_apart
from fedjury.randomness import Purpose, draw_groups, stream
from fedjury.round.sums import NO_SUMS, OpenedSum, fixed_groups

THREE = np.array([[1.0, 0.0], [4.0, 2.0], [0.0, 10.0]])
"""What three agents send in each round."""


def noted(updates, *rounds, noise=0.0):
    """Let the means of these rounds' groups be noted."""
    known, rng = Equations(*updates.shape), np.random.default_rng(5)
    for groups in rounds:
        sent = updates + noise * rng.normal(size=updates.shape)
        known.add(groups, [sent[[*members]].mean(axis=0) for members in groups])
    return known


def test_three_pairs_of_three_agents_tell_each_of_them():
    """Means of 1 and 2, 2 and 3, 1 and 3: (2.5, 1), (2, 6), (.5, 5). Each is worked out exactly.

    Agent 1 is the first less the second plus the third mean: (1, 0).
    """
    known = noted(THREE, [(0, 1)], [(1, 2)], [(0, 2)])
    np.testing.assert_allclose(known.solved(), THREE, atol=1e-6)


def test_groups_that_stay_together_tell_their_mean_however_many_rounds_there_are():
    """A pair and a single agent, fifty rounds: of the pair no more than its mean, (2.5, 1)."""
    known = noted(THREE, *[[(0, 1), (2,)]] * 50)
    np.testing.assert_allclose(known.solved(), [[2.5, 1], [2.5, 1], [0, 10]], atol=1e-6)


def test_a_sum_that_lacks_one_member_tells_that_one():
    """All three, then without the third: it is 3 means of all less 2 of the others: (0, 10)."""
    known = noted(THREE, [(0, 1, 2)], [(0, 1)])
    found = known.solved()
    np.testing.assert_allclose(found[2], THREE[2], atol=1e-6)
    np.testing.assert_allclose(found[:2], [[2.5, 1]] * 2, atol=1e-6)


def test_what_changes_from_round_to_round_averages_out():
    """Noise as long as the updates: after 400 rounds of pairs, the error is a small part of it."""
    updates = np.random.default_rng(0).normal(size=(8, 50))
    errors = []
    for count in (20, 400):
        rngs = [stream(0, Purpose.GROUPS, number) for number in range(count)]
        names = [f"{number}" for number in range(8)]
        rounds = [
            [[int(name) for name in group] for group in draw_groups(names, 2, rng)] for rng in rngs
        ]
        known = noted(updates, *rounds, noise=1.0)
        errors.append(float(((known.solved() - updates) ** 2).mean()))
    assert errors[1] < errors[0] / 10
    assert errors[1] < 0.02


def test_damping_makes_what_is_hardly_known_shorter():
    """One agent once, another a hundred times: half known by 1 % damping, and almost whole."""
    known = Equations(2, 1)
    for _ in range(100):
        known.add([(0,)], [[1.0]])
    known.add([(1,)], [[1.0]])
    np.testing.assert_allclose(known.solved(0.01), [[100 / 101], [1 / 2]], rtol=1e-6)
    np.testing.assert_allclose(known.solved(), [[1], [1]], rtol=1e-6)


def test_nothing_was_noted():
    """Then nothing is known of anybody."""
    assert Equations(3, 2).solved().tolist() == [[0, 0]] * 3


def test_cosines_and_who_is_told_apart_by_hand():
    """(1, 0) with (2, 0) is 1, with (0, 3) is 0, with (1, 1) is .707; a zero vector has none."""
    alike = cosines(np.array([[1.0, 0], [0, 0]]), np.array([[2.0, 0], [0, 3], [1, 1]]))
    assert alike[0].tolist() == pytest.approx([1, 0, 0.5**0.5])
    assert alike[1].tolist() == [0, 0, 0]
    # The first is found, the second is taken for the third, of the third two are equally alike.
    assert told_apart(np.array([[0.9, 0, 0], [0, 0.5, 0.6], [0.7, 0, 0.7]])) == pytest.approx(0.5)


@pytest.mark.parametrize(("away", "size"), [(0.05, 10), (0.01, 50), (0.05, 5)])
def test_what_staying_together_costs_where_agents_are_away(away, size):
    """Of a hundred agents each is away by chance: a group is whole with (1 - share) to its size."""
    names = [f"agent-{number:03}" for number in range(100)]
    sums, rounds, there = NO_SUMS, 2000, 0
    for group in draw_groups(names, size, stream(0, Purpose.GROUPS, 1)):
        sums = sums.with_sum(1, 1, b"", OpenedSum(group, group), stays=True)
    rng = np.random.default_rng(1)
    for _ in range(rounds):
        online = [name for name in names if rng.random() >= away]
        found = fixed_groups(online, sums.ever, size, lambda _: ())
        there += sum(map(len, found.whole))
    assert there / rounds / 100 == pytest.approx((1 - away) ** size, abs=0.02)
