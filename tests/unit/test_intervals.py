"""Intervals of shares over seeds, against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from fedjury.experiments.engine.intervals import (
    Count,
    clopper_pearson,
    design_effect,
    explained,
    interval,
    student,
)


def test_equal_runs_have_students_interval_of_their_shares():
    """Shares .1, .2, .3: mean .2, standard error .1 / √3; t with 2 degrees of freedom is 4.302653.

    The design effect is 1.25: variance .01 over .2 x .8 / 20 = .008.
    """
    runs = [Count(2, 20), Count(4, 20), Count(6, 20)]
    assert design_effect([runs]) == pytest.approx(1.25)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert interval(runs) == pytest.approx((max(0, 0.2 - half), 0.2 + half), abs=1e-6)


def test_runs_that_agree_by_chance_are_no_more_certain_than_independent_rounds():
    """Twice 50 of 100: no spread, so √(.25 / 200) and t with one degree of freedom, 12.706205."""
    half = 12.706205 * math.sqrt(0.25 / 200)
    assert interval([Count(50, 100), Count(50, 100)]) == pytest.approx((0.5 - half, 0.5 + half))


def test_long_runs_weigh_more_than_short_ones():
    """8 of 40 and 2 of 10 agree: the share is .2 and the spread that of 50 rounds."""
    half = 12.706205 * math.sqrt(0.2 * 0.8 / 50)
    low, high = student([Count(8, 40), Count(2, 10)])
    assert (low, high) == pytest.approx((0, 0.2 + half), abs=1e-6)


def test_an_interval_stays_within_0_and_1():
    """Half of each: one run always, one never."""
    assert interval([Count(10, 10), Count(0, 10)]) == (0, 1)


@pytest.mark.parametrize(
    ("hits", "of", "effect", "low", "high"),
    [
        # None of n: the upper end is 1 - .025^(1/n); all of n: the lower one is .025^(1/n).
        (0, 45, 1, 0, 1 - 0.025 ** (1 / 45)),
        (0, 45, 1.5, 0, 1 - 0.025 ** (1 / 30)),
        (45, 45, 1.5, 0.025 ** (1 / 30), 1),
        # 1 of 2: the ends solve p² = .025 and (1 - p)² = .025.
        (1, 2, 1, 1 - math.sqrt(0.975), math.sqrt(0.975)),
    ],
)
def test_clopper_pearson_by_hand(hits, of, effect, low, high):
    """Exact, of as many rounds as they are worth."""
    assert clopper_pearson(Count(hits, of), effect) == pytest.approx((low, high), abs=1e-9)


def test_none_in_five_seeds_is_not_proof_of_none():
    """0 of 5 x 9 with a design effect of 1.5 from elsewhere: up to .116, not [0, 0]."""
    runs = [Count(0, 9)] * 5
    assert interval(runs, 1.5) == pytest.approx((0, 1 - 0.025 ** (1 / 30)), abs=1e-9)
    assert interval([Count(9, 9)] * 5) == pytest.approx((0.025 ** (1 / 45), 1), abs=1e-9)


def test_one_run_that_counted_something_is_no_spread():
    """The other counted nothing, so Clopper and Pearson's interval of 1 of 2 is left."""
    ends = (1 - math.sqrt(0.975), math.sqrt(0.975))
    assert interval([Count(1, 2), Count(0, 0)]) == pytest.approx(ends)
    assert interval([Count(0, 0)]) is None


def test_the_design_effect_of_several_cells():
    """X² of the first is twice 2² / (.5 x .5 x 10), of the second 0; each has a degree of freedom.

    Cells without hits, with nothing but hits, or with one run say nothing.
    """
    cells = [
        [Count(7, 10), Count(3, 10)],
        [Count(5, 10), Count(5, 10)],
        [Count(0, 10), Count(0, 10)],
        [Count(10, 10), Count(10, 10)],
        [Count(5, 10)],
    ]
    assert design_effect(cells) == pytest.approx((2 * 4 / 2.5 + 0) / 2)
    assert design_effect(cells[1:]) == 1
    assert design_effect(cells[2:]) is None


def test_what_the_intervals_are_is_said():
    """With the design effect, or that none could be measured; and what one seed cannot show."""
    assert "divided by 1.83, the design effect" in explained(1.831, 5)
    assert "the count as it is" in explained(None, 5)
    assert "says nothing of other seeds" in explained(None, 1)
