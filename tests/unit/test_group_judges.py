"""Judges of groups: FLShield by hand, judges of single candidates group by group, and others'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedjury import judges
from fedjury.judges import group_judges
from fedjury.judges.flshield import LARGEST, lipc, votes
from fedjury.judges.group_judges import Measured, judged_groups
from fedjury.judges.judgements import BLOCK, Judgements
from fedjury.learning.class_losses import class_losses
from fedjury.learning.task import classification, regression
from fedjury.registry.faults import PluginError

BEFORE = np.array([[1.0, 2.0]])
AFTER = np.array([[[0.75, 1.5], [0.5, 2.5], [1.0, 1.75]]])
"""Of two classes, losses fall by .25 and .5 with the first group, by .5 and -.5 with the second,
by 0 and .25 with the third: the worst class of each falls by .25, -.5, 0."""


def measured(before=BEFORE, after=AFTER, counts=((3, 9),)):
    """Return what is measured, here by one validator."""
    return Measured(np.asarray(before), np.asarray(after), np.asarray(counts))


def test_falls_of_losses_by_hand():
    """Before minus after, class by class; a class without samples is infinitely good."""
    expected = [[[0.25, 0.5], [0.5, -0.5], [0, 0.25]]]
    np.testing.assert_array_equal(lipc(*measured()), expected)
    lacking = lipc(*measured(counts=[[3, 0]]))
    np.testing.assert_array_equal(lacking, [[[0.25, np.inf], [0.5, np.inf], [0, np.inf]]])


def test_groups_below_the_median_are_voted_down():
    """Scores -.25, .5, 0 have the median 0: the second is poisoned, the median itself is kept."""
    result = votes(measured())
    np.testing.assert_array_equal(result.score, [[-0.25, 0.5, 0]])
    np.testing.assert_array_equal(result.threshold, [[0, 0, 0]])
    np.testing.assert_array_equal(result.poisoned, [[False, True, False]])
    assert result.evidence.shape == (1, 3, 0)


def test_a_validator_votes_by_the_classes_that_it_holds():
    """By the first class alone, scores -.25, -.5, 0 have the median -.25: the third is worst."""
    result = votes(measured(counts=[[3, 0]]))
    np.testing.assert_array_equal(result.score, [[-0.25, -0.5, 0]])
    np.testing.assert_array_equal(result.poisoned, [[False, False, True]])


def test_each_validator_has_its_own_median():
    """Two at once vote as each does alone."""
    both = votes(measured(np.tile(BEFORE, (2, 1)), np.tile(AFTER, (2, 1, 1)), [[3, 9], [3, 0]]))
    np.testing.assert_array_equal(both.poisoned, [[False, True, False], [False, False, True]])
    np.testing.assert_array_equal(both.threshold[:, 0], [0, -0.25])


def test_without_samples_or_with_equal_groups_nothing_is_voted_down():
    """Nothing is known, or nothing is worse."""
    nothing = votes(measured(counts=[[0, 0]]))
    assert not nothing.poisoned.any()
    assert (nothing.score == 0).all()
    assert not votes(measured(after=np.ones((1, 4, 2)))).poisoned.any()
    assert not votes(measured(after=[[[9.0, 9.0]]])).poisoned.any()  # one alone


@pytest.mark.parametrize("loss", [np.nan, np.inf, 1e30])
def test_a_group_whose_losses_are_no_numbers_is_the_worst(loss):
    """Its score is finite, as votes must be."""
    after = AFTER.copy()
    after[0, 1, 0] = loss
    result = votes(measured(after=after))
    assert result.score[0, 1] == LARGEST - 1
    np.testing.assert_array_equal(result.poisoned, [[False, True, False]])


@given(
    arrays(np.float64, (2, 3), elements=st.floats(allow_nan=True, width=32)),
    arrays(np.float64, (2, 5, 3), elements=st.floats(allow_nan=True, width=32)),
    arrays(np.int64, (2, 3), elements=st.integers(0, 2)),
)
def test_whatever_is_measured_at_most_half_is_voted_down_and_the_best_stays(before, after, counts):
    """All is finite; of five groups two at the most go, and never one with the lowest score."""
    result = votes(Measured(before, after, counts))
    assert all(np.isfinite(part).all() for part in result)
    assert (result.poisoned.sum(axis=1) <= 2).all()
    assert not result.poisoned[result.score == result.score.min(axis=1, keepdims=True)].any()


def test_losses_are_averaged_over_classes_by_hand():
    """Losses 1, 2, 6 of classes 0, 2, 2 average to 1, nothing, 4; of a second model to 0, -, 1."""
    losses = np.array([[1, 2, 6], [0, 1, 1]], np.float32)
    means, counts = class_losses(losses, np.array([0, 2, 2]), classification(3))
    np.testing.assert_array_equal(means, [[1, 0, 4], [0, 0, 1]])
    np.testing.assert_array_equal(counts, [1, 0, 2])


def test_losses_of_numbers_are_averaged_over_bins():
    """Three different targets have a bin each; the other seven bins are empty."""
    losses = np.array([[4, 1, 9, 3]], np.float32)
    means, counts = class_losses(losses, np.array([5.0, 1.0, 5.0, 2.0]), regression())
    np.testing.assert_array_equal(means[0, :3], [1, 3, 6.5])
    np.testing.assert_array_equal(counts, [1, 1, 2] + 7 * [0])


@pytest.mark.parametrize("name", list(judges.JUDGES.own))
def test_every_judge_judges_groups_as_it_judges_single_candidates(name):
    """Each group of each validator, whatever else is asked with it; also where blocks end."""
    rng = np.random.default_rng(0)
    history = rng.binomial(60, 0.05, (BLOCK // 4, 12, 20))
    groups = rng.binomial(60, 0.08, (BLOCK // 4, 7, 20))
    judge = judges.build(name, minimum_history=5)
    result = judged_groups(judge, history, groups)
    assert result.poisoned.shape == (BLOCK // 4, 7)
    for g in range(7):
        alone = judge(history, groups[:, g])
        for part, expected in zip(result, alone, strict=True):
            np.testing.assert_array_equal(part[:, g], expected)


def test_groups_are_clean_while_too_few_were_accepted():
    """As candidates are; and nobody, or no group, is no error."""
    judge = judges.build("robust", minimum_history=11)
    for validators, number in ((3, 2), (0, 2), (3, 0)):
        groups = np.zeros((validators, number, 20), np.int64)
        result = judged_groups(judge, np.zeros((validators, 4, 20), np.int64), groups)
        assert result.poisoned.shape == (validators, number)
        assert not result.poisoned.any()


def ours(limit: float = 0.0):
    """Build a group judge that looks at the mean over all classes."""

    def judge(found):
        score = (found.after - found.before[:, None]).mean(axis=2)
        return Judgements(score > limit, score, np.full(score.shape, limit), score[..., None])

    return judge


def of_no_group():
    """Build one that judges validators and not groups."""
    return lambda found: judges.judgements.no_judgement(len(found.before))


def that_writes():
    """Build one that writes into what it is shown."""

    def judge(found):
        found.after[:] = 0

    return judge


def test_group_judges_are_built_by_name():
    """Ours, somebody else's with options, and a name that nobody has."""
    assert group_judges.build("flshield")(measured()).poisoned.tolist() == [[False, True, False]]
    result = group_judges.build(f"{__name__}:ours", limit=-0.2)(measured())
    assert result.poisoned.tolist() == [[False, True, True]]  # -.375, 0, -.125
    with pytest.raises(ValueError, match="flshield"):
        group_judges.build("flshild")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("of_no_group", r"made a poisoned of shape \(1,\) for 1 validators and 3 groups"),
        ("that_writes", "read-only"),
    ],
)
def test_somebody_else_s_group_judge_fails_in_a_sentence(name, message):
    """Of another shape, or where it writes."""
    with pytest.raises(PluginError, match=message):
        group_judges.build(f"{__name__}:{name}")(measured())
