"""The judge by medians: its unit, its score and its threshold, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedjury.judges import build
from fedjury.judges.robust import limit_of, usual

CALM = [[10, 0], [12, 0], [8, 0], [10, 0], [14, 0]]
"""Two counts of five accepted models: medians 10 and 0, MADs 2 and 0."""


def histories(rows, validators=1):
    """Return counts of accepted models as judges take them, (m, L, p)."""
    return np.array([rows] * validators, dtype=np.int64)


def judged(rows, candidate, **options):
    """Return score and verdict on one candidate of one validator."""
    judge = build("robust", minimum_history=3, **options)
    found = judge(histories(rows), np.array([candidate], dtype=np.int64))
    return found.score[0], bool(found.poisoned[0])


def test_the_unit_is_what_a_count_varies_by_and_at_least_what_rare_errors_do():
    """MAD 2 and 0 at medians 10 and 0: phi is max(1, (2 x 1.4826)^2 / (11 + 1)) = 1."""
    known = usual(histories(CALM))
    assert known.median.tolist() == [[10, 0]]
    spread = (2 * 1.4826) ** 2
    assert known.unit[0] == pytest.approx([math.sqrt(spread + 11), 1], rel=1e-15)


def test_where_all_counts_jump_a_rare_one_may_too():
    """MAD 20 and 0 at medians 40 and 0: phi is (20 x 1.4826)^2 / (41 + 1), about 20.9."""
    known = usual(histories([[20, 0], [60, 0], [40, 0], [10, 0], [60, 0]]))
    spread = (20 * 1.4826) ** 2
    assert known.unit[0, 1] == pytest.approx(math.sqrt(spread / 42), rel=1e-15)


def test_the_score_is_the_largest_rise_of_all_counts():
    """Ten errors more in the first count and three in the second."""
    score, _ = judged(CALM, [20, 3])
    assert score == pytest.approx(max(10 / math.sqrt((2 * 1.4826) ** 2 + 11), 3 / 1))


def test_falling_errors_count_as_none():
    """Better than the median in both counts."""
    assert judged(CALM, [0, 0]) == (0, False)


def test_a_model_that_repairs_what_is_broken_is_not_rejected():
    """The last accepted model has 60 errors in place of 10: 40 are far from usual, but better."""
    broken = [*CALM, [60, 0]]
    assert judged(broken, [40, 0]) == (0, False)
    assert judged(broken, [61, 0])[1]


def test_accepted_poison_moves_neither_median_nor_unit_before_it_is_half_of_the_history():
    """Ten honest models and nine poisoned ones, alternating: the unit is the honest models'."""
    rows = [[10, 3], [40, 9]] * 9 + [[10, 3], [10, 3], [10, 3]]
    known = usual(histories(rows))
    assert known.median.tolist() == [[10, 3]]
    assert known.unit[0] == pytest.approx([math.sqrt(11), 2])
    assert judged(rows, [30, 3])[1]


def test_the_threshold_is_students_quantile_for_all_counts_together():
    """21 models and 20 counts at .02: t with 20 degrees of freedom at .999 (tables say 3.552)."""
    assert limit_of(21, 20, 0.02) == pytest.approx(3.552, abs=5e-4)
    assert limit_of(11, 20, 0.02) == pytest.approx(4.144, abs=5e-4)
    assert limit_of(21, 20, 0.1) == pytest.approx(2.845, abs=5e-4)


def test_validators_are_judged_on_their_own():
    """The same candidate, rare errors to one validator and usual ones to the other."""
    judge = build("robust", minimum_history=3)
    rows = histories(CALM, 2)
    rows[1, :, 1] = [9, 3, 5, 7, 1]
    found = judge(rows, np.array([[10, 6]] * 2, dtype=np.int64))
    assert found.poisoned.tolist() == [True, False]
    assert found.score[0] == 6 and 0 < found.score[1] < 1


@pytest.mark.parametrize("options", [{"false_alarm": 0}, {"false_alarm": 0.6}])
def test_what_cannot_be_is_refused(options):
    """A rate of false alarms is above 0 and at most a half."""
    with pytest.raises(ValueError, match="false_alarm"):
        build("robust", **options)


def test_a_history_of_two_is_too_short():
    """Of two models none is in the middle."""
    with pytest.raises(ValueError, match="minimum_history must be 3 models at least, not 2"):
        build("robust", minimum_history=2)
