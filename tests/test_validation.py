"""Judges of candidate models: error profiles, local outlier factors, VALIDATE, a calibrated one."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import LocalOutlierFactor

from learning import validation
from learning.validation import lof, opinions, prediction
from learning.validation.calibrated import increases
from learning.validation.profiles import error_profile, variations
from learning.validation.readings import neighbours, trusted_count

LINE = np.array([[0.0], [1.0], [3.0], [7.0]])
"""Four points A, B, C, D on a line. With k = 2, by hand:

N(A) = B at 1, C at 3; N(B) = A at 1, C at 2; N(C) = B at 2, A at 3; N(D) = C at 4, B at 6
kdist = 3, 2, 3, 6
mean reach of A: (max(2, 1) + max(3, 3)) / 2 = 5/2    lrd = 2/5
              B: (max(3, 1) + max(3, 2)) / 2 = 3            1/3
              C: (max(2, 2) + max(3, 3)) / 2 = 5/2          2/5
              D: (max(3, 4) + max(2, 6)) / 2 = 5            1/5
LOF of A: (1/3 + 2/5) / 2 / (2/5) = 11/12;  B: (2/5 + 2/5) / 2 / (1/3) = 6/5
       C: (1/3 + 2/5) / 2 / (2/5) = 11/12;  D: (2/5 + 1/3) / 2 / (1/5) = 11/6
"""


def drawn_profiles(models, samples=500, classes=10, accuracy=0.9, seed=0):
    """Profile models that err at random, so that no variation is special; and give the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    wrong = rng.random((models, samples)) > accuracy
    shift = rng.integers(1, classes, (models, samples))
    return error_profile(
        np.where(wrong, (labels + shift) % classes, labels), labels, classes
    ), labels


class Said(NamedTuple):
    """What one validator thinks."""

    poisoned: bool
    score: float
    threshold: float


def ask(judge, profiles, candidate, samples):
    """Let one validator judge, by profiles (l+1, 2C)."""
    found = judge(profiles[None], candidate[None], samples)
    return Said(*(values.item() for values in found[:3]))


def seen(judge, profiles, candidate, samples):
    """Return what one validator measured of accepted models and of the candidate, (N + 1,)."""
    return judge(profiles[None], candidate[None], samples).evidence[0]


def in_sample(points, k, floor=1e-9):
    """Score points (l, p) among each other, as (l,)."""
    return lof.local_outlier_factors(lof.densities(lof.distances(points[None]), k, floor))[0]


def as_newcomers(queries, reference, k, floor=1e-9):
    """Score points (q, p) against (l, p), as (q,)."""
    between = lof.distances(np.concatenate([reference, queries])[None])
    known, new = len(reference), slice(len(reference), None)
    return lof.novelty_factors(
        between[:, new, :known], lof.densities(between[:, :known, :known], k, floor), floor
    )[0]


# Profiles


def test_error_profile_by_hand():
    """Of 4 samples, 0 is called 1, 2 is called 1: sources 0 and 2, target 1, shares of all 4."""
    profile = error_profile(np.array([1, 0, 1, 1]), np.array([0, 0, 1, 2]), classes=3)
    np.testing.assert_array_equal(profile, [1 / 4, 0, 1 / 4, 0, 2 / 4, 0])


def test_error_profiles_of_a_batch_are_those_of_each():
    """Many models at once give the rows that they give alone."""
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 5, (7, 40)), rng.integers(0, 5, 40)
    batch = error_profile(predictions, labels, 5)
    assert batch.dtype == np.float64
    np.testing.assert_array_equal(batch, [error_profile(p, labels, 5) for p in predictions])


def test_both_halves_of_a_profile_add_up_to_the_error_rate():
    """Every mistake has one true class and one claimed class."""
    rng = np.random.default_rng(1)
    predictions, labels = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    halves = error_profile(predictions, labels, 4).reshape(2, 4).sum(axis=1)
    np.testing.assert_allclose(halves, (predictions != labels).mean())


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([], []), ([0, 1], [0, 1, 1]), ([0, 3], [0, 1]), ([0, 1], [-1, 1]), ([[0, 1]], [[0, 1]])],
)
def test_profiles_of_what_does_not_fit_are_errors(predictions, labels):
    """No samples, wrong shapes and classes out of range are refused."""
    with pytest.raises(ValueError):
        error_profile(np.array(predictions, dtype=int), np.array(labels, dtype=int), classes=3)


def test_variations_by_hand():
    """A variation is the earlier profile minus the later one."""
    profiles = np.array([[[0.5, 0.25], [0.25, 0.5], [0.25, 0.0]]])
    np.testing.assert_array_equal(variations(profiles), [[[0.25, -0.25], [0.0, 0.5]]])


# Local outlier factors


def test_local_outlier_factors_by_hand():
    """Four points on a line score as worked out above."""
    np.testing.assert_allclose(in_sample(LINE, k=2), [11 / 12, 6 / 5, 11 / 12, 11 / 6])


def test_novelty_by_hand():
    """A newcomer at 5 has C and D at 2, reach max(3, 2) and max(6, 2), lrd 2/9, LOF 1.35."""
    # (2/5 + 1/5) / 2 / (2/9) = 27/20
    np.testing.assert_allclose(as_newcomers(np.array([[5.0]]), LINE, k=2), [27 / 20])


@pytest.mark.parametrize("points", [2, 5, 10, 20, 30])
def test_scores_are_those_of_scikit_learn(points):
    """On random points, in the sample and as newcomers, the scores are scikit-learn's."""
    rng = np.random.default_rng(points)
    reference, queries = rng.standard_normal((points, 20)), rng.standard_normal((8, 20))
    k = neighbours(points)
    sample = LocalOutlierFactor(n_neighbors=k).fit(reference)
    novelty = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(reference)
    np.testing.assert_allclose(in_sample(reference, k), -sample.negative_outlier_factor_, rtol=1e-8)
    np.testing.assert_allclose(
        as_newcomers(queries, reference, k), -novelty.score_samples(queries), rtol=1e-8
    )


def test_the_floor_changes_nothing_without_heaps():
    """Distinct points on the grid of 1/|D| are at least 1/|D| apart: the scores are the paper's."""
    grid = np.unique(np.random.default_rng(3).integers(-9, 9, (30, 3)), axis=0) / 100
    np.testing.assert_allclose(
        in_sample(grid, 5, floor=1 / 100), in_sample(grid, 5, floor=1e-12), rtol=1e-12
    )


def test_of_equally_near_points_the_earlier_is_the_neighbour():
    """From 0, with k = 1, both -1 and 1 are at 1; 1 is dense, -1 is not, the order decides."""
    # lrd(-1) = 1, lrd(1) = 1 / 0.5 = 2, lrd(0) = 1 either way.
    points = np.array([[-1.0], [0.0], [1.0], [1.5]])
    assert in_sample(points, k=1)[1] == pytest.approx(1)
    assert in_sample(points[::-1], k=1)[2] == pytest.approx(2)


def test_a_heap_of_equal_points_scores_by_the_resolution():
    """With |D| = 10 a heap scores 1; a point 0.3 away scores 0.3 * 10 = 3, not 1e8."""
    # Heap: all reaches 1/10, lrd 10. The point: kdist 0.3, lrd 1 / 0.3, LOF 10 * 0.3.
    heap = np.array([[0.0], [0.0], [0.0], [0.0], [0.0], [0.3]])
    np.testing.assert_allclose(in_sample(heap, 3, floor=0.1), [1, 1, 1, 1, 1, 3])
    newcomers = np.array([[0.0], [-0.3], [-1.0]])
    np.testing.assert_allclose(as_newcomers(newcomers, heap, 3, floor=0.1), [1, 3, 10])


def test_rounding_does_not_break_a_heap():
    """Variations equal but for the last bit of a difference count as equal."""
    heap = np.array([[0.3 - 0.2], [0.2 - 0.1], [0.1], [0.4 - 0.3]])
    assert len(np.unique(heap)) > 1
    np.testing.assert_allclose(in_sample(heap, 2, floor=0.1), 1)


@pytest.mark.parametrize("k", [0, 4])
def test_neighbours_must_exist(k):
    """Four points have one to three neighbours each."""
    with pytest.raises(ValueError, match="4 points have no"):
        in_sample(LINE, k)


# VALIDATE


def test_validate_by_hand():
    """With variations D, C, B, A of the line above, in hundredths, τ is LOF(A) = 11/12."""
    # l = 4: k = 2, one trusted variation. |D| = 100, so the floor of 1/100 lifts nothing.
    # v_new = 5: φ = 27/20. v_new = 2: B and C at 1, reach 2 and 3, lrd 2/5, φ = 11/12 = τ: clean.
    errors = 0.5 - np.cumsum([0, 0.07, 0.03, 0.01, 0.00])
    profiles = np.column_stack([errors, np.zeros(5)])
    judge = validation.build("lof", minimum_history=5)
    far = ask(judge, profiles, profiles[-1] - [0.05, 0], 100)
    assert far == pytest.approx((True, 27 / 20, 11 / 12))
    tie = ask(judge, profiles, profiles[-1] - [0.02, 0], 100)
    assert tie == pytest.approx((False, 11 / 12, 11 / 12))
    evidence = seen(judge, profiles, profiles[-1] - [0.05, 0], 100)
    np.testing.assert_allclose(evidence, np.log([11 / 12, 27 / 20]))


@pytest.mark.parametrize("error", np.arange(15, 85, 5) / 100)
def test_a_tie_is_clean_whatever_the_rounding(error):
    """A step back as long as the last step forward scores what that one scored: τ = φ = 3."""
    # l = 4, k = 2: a heap of three unchanged, the trusted v_4 at 0.03, v_new at -0.03, |D| = 100.
    profiles = np.column_stack([error - np.array([0, 0, 0, 0, 0.03]), np.zeros(5)])
    judge = validation.build("lof", minimum_history=5)
    opinion = ask(judge, profiles, profiles[-1] + [0.03, 0], 100)
    assert opinion == pytest.approx((False, 3, 3))


@pytest.mark.parametrize(
    ("points", "k", "trusted"), [(2, 1, 1), (10, 5, 2), (20, 10, 5), (30, 15, 7), (5, 3, 1)]
)
def test_counts_of_neighbours_and_trusted_variations(points, k, trusted):
    """Neighbours are half of l, rounded up; trusted a quarter, rounded down, at least one."""
    assert (neighbours(points), trusted_count(points)) == (k, trusted)


WORKED = {
    # k = 4. Known: lrd(v_7) = 4 / .13, of .04 to v_8 and .03 to three of the heap;
    # lrd(v_8) = 4 / .15, of .03 to v_7 and .04 to three. v_new: .04 and .03 to them, .05 to two.
    "A": (((4 / 0.15 + 300) * 0.13 + (4 / 0.13 + 300) * 0.15) / 32,
          (4 / 0.15 + 4 / 0.13 + 200) * 0.17 / 16),
    # v_7 comes to a heap of six, k = 3: .03 * 100. v_8 comes to a heap, k = 4, where v_7 with
    # kdist .03 has lrd 1 / .03: reaches .03 and three times .04.
    "B": ((3 + (100 / 3 + 300) * 0.15 / 16) / 2, (4 / 0.15 + 4 / 0.13 + 200) * 0.17 / 16),
    # v_8 as in B. v_7 comes where v_8 with kdist .04 has lrd 1 / .04: .04 and three times .03.
    "C": (((25 + 300) * 0.13 + (100 / 3 + 300) * 0.15) / 32,
          (4 / 0.15 + 4 / 0.13 + 200) * 0.17 / 16),
    # kdist .03, .04, .05; v_7: .04 .05 .03 .03; v_8: .03 .05 .04 .04; v_new: .04 .03 .05 .05.
    "D": (((25 + 4 / 0.17 + 200) * 0.15 + (4 / 0.15 + 4 / 0.17 + 200) * 0.16) / 32,
          (4 / 0.15 + 25 + 200) * 0.17 / 16),
}  # fmt: skip
"""τ and φ by reading, of six variations of 0, v_7 = .03, v_8 = .04, v_new = .05, |D| = 100.

The heap of six has the lrd of the floor, 100.
"""


@pytest.mark.parametrize("reading", WORKED)
def test_readings_by_hand(reading):
    """Each reading scores the trusted against its own set, which gives another threshold."""
    errors = 0.5 - np.cumsum([0, 0, 0, 0, 0, 0, 0, 0.03, 0.04, 0.05])
    profiles = np.column_stack([errors, np.zeros(10)])
    judge = validation.build("lof", minimum_history=9, reading=reading)
    threshold, score = WORKED[reading]
    assert ask(judge, profiles[:-1], profiles[-1], 100) == pytest.approx(
        (score > threshold, score, threshold)
    )


def by_scikit_learn(reading, v, known):
    """Make τ and φ of variations (l+1, p), the last one new, with scikit-learn."""

    def newcomer(i, others):
        fitted = LocalOutlierFactor(n_neighbors=(len(others) + 1) // 2, novelty=True).fit(v[others])
        return -fitted.score_samples(v[[i]])[0]

    trusted, everyone = range(known - known // 4, known), np.arange(known)
    if reading in "AD":
        fitted = LocalOutlierFactor(n_neighbors=(known + 1) // 2).fit(v[: known + (reading == "D")])
        scores = -fitted.negative_outlier_factor_
        return scores[trusted].mean(), scores[-1] if reading == "D" else newcomer(known, everyone)
    others = {i: everyone[:i] if reading == "B" else np.delete(everyone, i) for i in trusted}
    return np.mean([newcomer(i, others[i]) for i in trusted]), newcomer(known, everyone)


@pytest.mark.parametrize("known", [11, 20])
@pytest.mark.parametrize("reading", WORKED)
def test_readings_are_what_scikit_learn_would_say(reading, known):
    """On profiles without heaps or ties, τ and φ are made of scikit-learn's scores."""
    profiles = np.random.default_rng(known).random((known + 2, 20)) / 10
    judge = validation.build("lof", reading=reading)
    opinion = ask(judge, profiles[:-1], profiles[-1], 2000)
    expected = by_scikit_learn(reading, variations(profiles[None])[0], known)
    assert (opinion.threshold, opinion.score) == pytest.approx(expected)


@pytest.mark.parametrize(("reading", "least"), [("A", 3), ("B", 4), ("C", 4), ("D", 3)])
def test_readings_need_points_to_compare_with(reading, least):
    """A fitted point needs a neighbour: a shorter minimum is an error, the shortest works."""
    with pytest.raises(ValueError, match=f"minimum_history must be {least} models at least"):
        validation.build("lof", minimum_history=least - 1, reading=reading)
    profiles, labels = drawn_profiles(least + 1)
    judge = validation.build("lof", minimum_history=least, reading=reading)
    assert ask(judge, profiles[:-1], profiles[-1], len(labels)).threshold > 0


def test_unknown_readings_are_explained():
    """A reading that does not exist is an error that lists those that do."""
    with pytest.raises(ValueError, match=r"unknown reading of judge 'lof': 'E'.*A, B, C, D"):
        validation.build("lof", reading="E")


def test_a_single_judge_rejects_many_benign_models():
    """The paper's τ is a mean: one honest voter alone rejects a third to a half of the good."""
    judge = validation.build("lof")
    votes = []
    for seed in range(60):
        profiles, labels = drawn_profiles(22, seed=seed)
        votes.append(ask(judge, profiles[:-1], profiles[-1], len(labels)).poisoned)
    assert 0.2 < np.mean(votes) < 0.6


@pytest.mark.parametrize("reading", WORKED)
def test_a_still_history_does_not_blind_validate(reading):
    """Where nothing changed for long τ is 1: no change is clean, many new mistakes are not."""
    profiles = np.zeros((21, 20))
    judge = validation.build("lof", reading=reading)
    worse = np.zeros(20)
    worse[[3, 15]] = 0.5
    assert ask(judge, profiles, profiles[-1], 40) == (False, 1.0, 1.0)
    # √(0.5² + 0.5²) * 40 = 20 √2
    assert ask(judge, profiles, worse, 40) == pytest.approx((True, 20 * np.sqrt(2), 1.0))


@pytest.mark.parametrize("reading", WORKED)
def test_one_jump_in_a_still_history_does_not_raise_the_threshold_for_ever(reading):
    """A heap with one outlier among the trusted gives a τ in proportion, not of 1e8."""
    profiles = np.zeros((21, 20))
    profiles[-1, [0, 11]] = 1 / 40
    opinion = ask(validation.build("lof", reading=reading), profiles, profiles[-1], 40)
    # The jump is √2 / 40 from the heap, so it scores √2: τ = (4 + √2) / 5.
    assert opinion.threshold == pytest.approx((4 + np.sqrt(2)) / 5)


# The calibrated judge

FOUR = np.array([[0, 0.2], [0, 0.2], [0.1, 0.2], [0.1, 0.2]])[:, [0, 1, 1, 0]]
"""Four models on |D| = 10 samples in two classes: two errors rise together, two stay. By hand:

w = 2, f = .1. The third model, after 0 and 0: z = .1 / √(0 + 0 + .01) = 1, twice: T = √2
The fourth, after 0 and .1: σ² = .005, z² = .05² / (.005 + .005 + .01) = 1/8, twice: T = 1/2
A candidate at .3, after .1 and .1: z² = .2² / (0 + .01 + .01) = 2, twice: T = 2
"""

RISEN = np.array([0.3, 0.1, 0.1, 0.3])
"""That candidate; its other errors fall, which does not count."""


def test_increases_by_hand():
    """Increases are measured against the models before, falling errors count as none."""
    models = np.concatenate([FOUR, RISEN[None]])[None]
    np.testing.assert_allclose(increases(models, 2, 10), [[np.sqrt(2), 1 / 2, 2]])


@pytest.mark.parametrize(("false_alarm", "poisoned"), [(0.02, False), (0.25, False), (0.3, True)])
def test_calibrated_by_hand(false_alarm, poisoned):
    """The score is in standard deviations of the next draw, the threshold Student's quantile."""
    # N = 2: t of one degree of freedom, whose quantiles are tan(π (1/2 - false_alarm)).
    past = np.log([np.sqrt(2) + 0.1, 0.6])
    spread = (past[0] - past[1]) / np.sqrt(2)
    score = (np.log(2.1) - past.mean()) / (spread * np.sqrt(3 / 2))
    judge = validation.build("calibrated", minimum_history=4, false_alarm=false_alarm)
    threshold = np.tan(np.pi * (0.5 - false_alarm))
    assert ask(judge, FOUR, RISEN, 10) == pytest.approx((poisoned, score, threshold))
    assert score == pytest.approx(0.98528, abs=1e-5)
    np.testing.assert_allclose(seen(judge, FOUR, RISEN, 10), [*past, np.log(2.1)])


def benign_profiles(models, noise, seed=0):
    """Profile benign models of 4,000 federations: rates that fluctuate by round, counted on 500."""
    rng = np.random.default_rng(seed)
    rate = rng.lognormal(-5, 0.5, (4000, 1, 20))
    common, own = rng.normal(0, 0.1, (4000, models, 1)), rng.normal(0, noise, (4000, models, 20))
    return rng.binomial(500, np.minimum(rate * np.exp(common + own), 1)) / 500


@pytest.mark.parametrize("history", [11, 21])
@pytest.mark.parametrize(("noise", "least", "most"), [(0.3, 0.3, 1.0), (1.0, 0.7, 1.3)])
def test_the_rate_of_false_alarms_is_the_setting(noise, least, most, history):
    """Benign models are rejected as often as was asked for; where rates are calm, more rarely."""
    profiles = benign_profiles(history + 1, noise)
    for false_alarm in (0.02, 0.05, 0.1):
        judge = validation.build("calibrated", false_alarm=false_alarm)
        rate = judge(profiles[:, :-1], profiles[:, -1], 500).poisoned.mean()
        assert least * false_alarm < rate < most * false_alarm


@pytest.mark.parametrize("false_alarm", [0.001, 0.02, 0.5])
def test_a_still_history_does_not_blind_the_calibrated_judge(false_alarm):
    """Where nothing changed for long, no change is clean, many new mistakes are not."""
    profiles, worse = np.zeros((21, 20)), np.zeros(20)
    worse[[3, 15]] = 0.5
    judge = validation.build("calibrated", false_alarm=false_alarm)
    still = ask(judge, profiles, profiles[-1], 40)
    assert not still.poisoned
    assert still.score == pytest.approx(0)
    # T = √2 * 0.5 * 40; s is at its floor of 0.1; w = 10, N = 11.
    score = np.log(20 * np.sqrt(2) / 0.1 + 1) / (0.1 * np.sqrt(12 / 11))
    assert ask(judge, profiles, worse, 40)[:2] == pytest.approx((True, score))


@pytest.mark.parametrize("seed", range(5))
def test_an_improvement_is_clean(seed):
    """A model with half of all errors gone is no threat, however unusual it is."""
    profiles, labels = drawn_profiles(21, seed=seed)
    opinion = ask(validation.build("calibrated"), profiles, profiles.min(axis=0) / 2, len(labels))
    assert not opinion.poisoned
    assert opinion.score < 0


@pytest.mark.parametrize(
    "settings", [{"minimum_history": 3}, {"false_alarm": 0.0}, {"false_alarm": 0.51}]
)
def test_the_calibrated_judge_refuses_what_cannot_work(settings):
    """It takes four models, and a rate of false alarms above none and up to a half."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        validation.build("calibrated", **settings)


# Student's prediction interval


def test_scores_by_hand():
    """How many deviations of the next draw it lies above the mean of those before."""
    # 1, 3 and 2, 4, 6: means 2 and 4, deviations √2 and 2. (5 - 2) / (√2 √(3/2)) = √3
    assert prediction.scores(np.array([[1.0, 3.0]]), np.array([5.0])) == pytest.approx(np.sqrt(3))
    # (1 - 4) / (2 √(4/3)) = -3 √3 / 4; the second row has nothing to do with the first.
    past = np.array([[2.0, 4.0, 6.0], [0.0, 0.0, 0.0]])
    found = prediction.scores(past, np.array([1.0, 0.2]))
    # A deviation of 0 is raised to 0.1: 0.2 / (0.1 √(4/3)) = √3
    np.testing.assert_allclose(found, [-3 * np.sqrt(3) / 4, np.sqrt(3)])


@pytest.mark.parametrize("false_alarm", [1e-9, 0.02, 0.3, 0.5])
@pytest.mark.parametrize("draws", [2, 3, 6, 30])
def test_thresholds_are_students_quantiles(draws, false_alarm):
    """With N draws before it, a next one exceeds the threshold with that probability."""
    found = prediction.threshold(draws, false_alarm)
    assert found == pytest.approx(stats.t.isf(false_alarm, draws - 1), rel=1e-6, abs=1e-12)
    if draws == 2:  # Cauchy's distribution
        assert found == pytest.approx(np.tan(np.pi * (0.5 - false_alarm)), rel=1e-6, abs=1e-12)


def test_the_next_draw_exceeds_its_threshold_as_often_as_was_said():
    """Of 20,000 rows of a normal distribution one in twenty does, up to four deviations."""
    drawn = np.random.default_rng(0).normal(5, 3, (20_000, 7))
    above = prediction.scores(drawn[:, :-1], drawn[:, -1]) > prediction.threshold(6, 0.05)
    assert abs(above.sum() - 1000) < 4 * np.sqrt(20_000 * 0.05 * 0.95)


@pytest.mark.parametrize("false_alarm", [0.0, -0.1, 0.51, np.nan])
def test_a_rate_of_false_alarms_that_cannot_be(false_alarm):
    """It is above none and at most a half."""
    with pytest.raises(ValueError, match=r"false_alarm must be above 0 and at most 0\.5"):
        prediction.threshold(5, false_alarm)


# What every judge promises


EVIDENCE = {("lof", 11): 3, ("lof", 31): 8, ("calibrated", 11): 7, ("calibrated", 31): 17}
"""Numbers of evidence with so many accepted models: the trusted, or T of the later half, and one.

Of l = 10 variations 2 are trusted, of 30 are 7. T is there from model 11 // 2 or 31 // 2 on.
"""


@pytest.mark.parametrize(("name", "models"), EVIDENCE)
def test_evidence_is_of_accepted_models_and_the_candidate(name, models):
    """Another candidate changes the last number alone."""
    judge = validation.build(name)
    profiles, _ = drawn_profiles(models + 2)
    first, second = (seen(judge, profiles[:models], profiles[i], 500) for i in (-2, -1))
    assert len(first) == len(second) == EVIDENCE[name, models]
    np.testing.assert_array_equal(first[:-1], second[:-1])
    assert first[-1] != second[-1]


EVERY = [*((name, {}) for name in validation.JUDGES), *(("lof", {"reading": r}) for r in "BCD")]


@pytest.fixture(params=EVERY, ids=str)
def judge(request):
    name, settings = request.param
    return validation.build(name, **settings)


@pytest.mark.parametrize("samples", [4, 500])
@pytest.mark.parametrize("history", [1, 3, 11, 31])
def test_judges_keep_their_contract(judge, history, samples):
    """An opinion is of plain, finite numbers, the same each time, and the input is not written."""
    profiles, _ = drawn_profiles(history + 1, samples=samples)
    profiles.setflags(write=False)
    found = judge(profiles[None, :-1], profiles[None, -1], samples)
    kinds = [(values.dtype, values.shape) for values in found[:3]]
    assert kinds == [(bool, (1,)), (float, (1,)), (float, (1,))]
    assert (found.evidence.dtype, len(found.evidence)) == (float, 1)
    assert np.isfinite(found.evidence).all()
    opinion = ask(judge, profiles[:-1], profiles[-1], samples)
    assert json.loads(json.dumps(opinion, allow_nan=False)) == list(opinion)
    assert opinion == ask(judge, profiles[:-1], profiles[-1], samples)
    assert opinion.score > opinion.threshold or not opinion.poisoned


@pytest.mark.parametrize("history", [3, 11, 20])
@pytest.mark.parametrize("validators", [0, 1, 2, opinions.BLOCK + 7])
def test_judging_together_is_judging_alone(judge, validators, history):
    """Each of many validators, in order, gets bit for bit what it would say alone."""
    rng = np.random.default_rng(validators)
    profiles = rng.binomial(50, 0.03, (validators, history + 1, 20)) / 50
    together = judge(profiles[:, :-1], profiles[:, -1], 50)
    assert [len(values) for values in together] == 4 * [validators]
    alone = [ask(judge, own[:-1], own[-1], 50) for own in profiles]
    assert list(zip(*(values.tolist() for values in together[:3]), strict=True)) == alone
    for own, row in zip(profiles, together.evidence, strict=True):
        np.testing.assert_array_equal(seen(judge, own[:-1], own[-1], 50), row)
    # However the array lies in memory.
    again = judge(np.asfortranarray(profiles[:, :-1]), profiles[:, -1], 50)
    for one, other in zip(again, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_judges_accept_while_the_history_is_short(judge):
    """With one accepted model there is nothing to compare with: even nonsense is clean."""
    assert ask(judge, np.zeros((1, 20)), np.full(20, 0.1), 50) == (False, 0.0, 0.0)
    assert seen(judge, np.zeros((1, 20)), np.full(20, 0.1), 50).shape == (0,)


@pytest.mark.parametrize("history", [11, 21, 31])
@pytest.mark.parametrize("seed", range(3))
def test_a_broken_model_is_poisoned(judge, history, seed):
    """A model that always answers 0, as one of NaN does, is seen."""
    profiles, labels = drawn_profiles(history, seed=seed)
    broken = error_profile(np.zeros_like(labels), labels, 10)
    opinion = ask(judge, profiles, broken, len(labels))
    assert opinion.poisoned
    assert opinion.score > 1.5 * opinion.threshold


@pytest.mark.parametrize("history", [11, 21, 31])
@pytest.mark.parametrize(("name", "settings"), EVERY[:-1], ids=str)
def test_an_unchanged_model_is_seldom_poisoned(name, settings, history):
    """No change is no outlier, but by reading D, where it makes the trusted look less like some."""
    judge = validation.build(name, **settings)
    profiles = np.stack([drawn_profiles(history, seed=seed)[0] for seed in range(50)])
    assert judge(profiles, profiles[:, -1], 500).poisoned.mean() < 0.1


def test_mistakes_in_settings_are_explained():
    """A misspelt judge or hyper-parameter is an error that names the right one."""
    with pytest.raises(ValueError, match=r"unknown judge: 'loff'; did you mean 'lof'\?"):
        validation.build("loff")
    with pytest.raises(ValueError, match="did you mean 'minimum_history'"):
        validation.build("lof", minimal_history=5)
    with pytest.raises(ValueError, match="false_alarm of judge 'calibrated' must be float"):
        validation.build("calibrated", false_alarm="2%")
