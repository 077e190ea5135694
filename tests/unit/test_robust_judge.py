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


def test_the_unit_is_what_a_count_varies_by_and_what_rare_errors_do():
    """MADs 2 and 0 at medians 10 and 0, changes 2, 4, 2, 4: 4 x 40 / 4 / (11 + 1) is above 1."""
    known = usual(histories(CALM))
    spread = (2 * 1.4826) ** 2
    assert known.unit[0] == pytest.approx([math.sqrt(spread + 11), 1], rel=1e-15)


def test_where_models_hardly_change_rare_errors_are_taken_for_rarer():
    """One change of one error in five models: 4 x 1 / 4 / (11 + 1) is below a quarter."""
    known = usual(histories([[10, 0]] * 4 + [[11, 0]]))
    assert known.unit[0] == pytest.approx([math.sqrt(11 / 4), 1 / 2], rel=1e-15)


def test_one_error_more_is_no_alarm_where_nothing_ever_changed_and_two_are():
    """A unit of half an error, and 3.55 units are allowed with 21 models."""
    calm = [[5] * 10 + [0] * 10] * 21
    assert judged(calm, [5] * 10 + [1] + [0] * 9) == (2, False)
    assert judged(calm, [5] * 10 + [2] + [0] * 9) == (4, True)


def test_a_rise_is_above_the_lower_of_the_medians_of_the_older_and_the_newer_half():
    """Of six models the last three err more: the older ones' median is what counts."""
    known = usual(histories([[10, 7], [11, 7], [12, 7], [30, 2], [31, 2], [32, 2]]))
    assert known.level.tolist() == [[11, 2]]


def test_where_all_counts_jump_a_rare_one_may_too():
    """MAD 20 and 0 at medians 40 and 0: phi is (20 x 1.4826)^2 / (41 + 1), about 20.9."""
    known = usual(histories([[20, 0], [60, 0], [40, 0], [10, 0], [60, 0]]))
    spread = (20 * 1.4826) ** 2
    assert known.unit[0, 1] == pytest.approx(math.sqrt(spread / 42), rel=1e-15)


def test_one_count_s_own_spread_is_bounded_by_what_all_counts_vary_by():
    """MADs 6 and 0, 0, 0 at medians of 10: phi is (6 x 1.4826)^2 / 44, and twice 11 phi is less."""
    rows = [[count, 10, 10, 10] for count in (4, 10, 16, 4, 16, 10, 10, 4, 16)]
    phi = max((6 * 1.4826) ** 2 / 44, 1)
    assert usual(histories(rows)).unit[0, 0] == pytest.approx(math.sqrt(3 * 11 * phi), rel=1e-15)


def test_the_score_is_the_largest_rise_of_all_counts():
    """Ten errors more in the first count and three in the second."""
    score, _ = judged(CALM, [20, 3])
    assert score == pytest.approx(max(10 / math.sqrt((2 * 1.4826) ** 2 + 11), 3 / 1))


def test_falling_errors_count_as_none():
    """Better than the median in both counts."""
    assert judged(CALM, [0, 0]) == (0, False)


def test_a_model_that_repairs_what_is_broken_is_not_rejected():
    """The last accepted model has 60 errors in place of 10: 40 are far from usual, but better."""
    broken = [*CALM, [10, 0], [60, 0]]
    assert judged(broken, [40, 0]) == (0, False)
    assert judged(broken, [61, 0])[1]


def test_accepted_poison_moves_neither_level_nor_unit_before_it_is_half_of_the_history():
    """Twelve honest models and nine poisoned ones, alternating: MADs and medians are the honest."""
    rows = [[10, 3], [40, 9]] * 9 + [[10, 3], [10, 3], [10, 3]]
    known = usual(histories(rows))
    assert known.level.tolist() == [[10, 3]]
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
    rows[1, :, 1] = [5, 3, 9, 7, 5]
    found = judge(rows, np.array([[10, 6]] * 2, dtype=np.int64))
    assert found.poisoned.tolist() == [True, False]
    assert found.score[0] == 6
    assert 0 < found.score[1] < 1


@pytest.mark.parametrize("options", [{"false_alarm": 0}, {"false_alarm": 0.6}])
def test_what_cannot_be_is_refused(options):
    """A rate of false alarms is above 0 and at most a half."""
    with pytest.raises(ValueError, match="false_alarm"):
        build("robust", **options)


def test_a_history_of_two_is_too_short():
    """Of two models none is in the middle."""
    with pytest.raises(ValueError, match="minimum_history must be 3 models at least, not 2"):
        build("robust", minimum_history=2)
