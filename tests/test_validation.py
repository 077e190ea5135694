"""Judges of candidate models: error profiles, local outlier factors, BAFFLE's VALIDATE."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.neighbors import LocalOutlierFactor

from learning import validation
from learning.validation import validate
from learning.validation.lof import local_outlier_factors, novelty_factors
from learning.validation.profiles import error_profile, variations

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
    profiles = np.array([[0.5, 0.25], [0.25, 0.5], [0.25, 0.0]])
    np.testing.assert_array_equal(variations(profiles), [[0.25, -0.25], [0.0, 0.5]])


# Local outlier factors


def test_local_outlier_factors_by_hand():
    """Four points on a line score as worked out above."""
    scores = local_outlier_factors(LINE, k=2, floor=1e-9)
    np.testing.assert_allclose(scores, [11 / 12, 6 / 5, 11 / 12, 11 / 6])


def test_novelty_by_hand():
    """A newcomer at 5 has C and D at 2, reach max(3, 2) and max(6, 2), lrd 2/9, LOF 1.35."""
    # (2/5 + 1/5) / 2 / (2/9) = 27/20
    np.testing.assert_allclose(novelty_factors(np.array([[5.0]]), LINE, 2, 1e-9), [27 / 20])


@pytest.mark.parametrize("points", [2, 5, 10, 20, 30])
def test_scores_are_those_of_scikit_learn(points):
    """On random points, in the sample and as newcomers, the scores are scikit-learn's."""
    rng = np.random.default_rng(points)
    reference, queries = rng.standard_normal((points, 20)), rng.standard_normal((8, 20))
    k = validate.neighbours(points)
    sample = LocalOutlierFactor(n_neighbors=k).fit(reference)
    novelty = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(reference)
    np.testing.assert_allclose(
        local_outlier_factors(reference, k, 1e-9), -sample.negative_outlier_factor_, rtol=1e-8
    )
    np.testing.assert_allclose(
        novelty_factors(queries, reference, k, 1e-9), -novelty.score_samples(queries), rtol=1e-8
    )


def test_the_floor_changes_nothing_without_heaps():
    """Distinct points on the grid of 1/|D| are at least 1/|D| apart: the scores are the paper's."""
    grid = np.unique(np.random.default_rng(3).integers(-9, 9, (30, 3)), axis=0) / 100
    np.testing.assert_allclose(
        local_outlier_factors(grid, 5, floor=1 / 100),
        local_outlier_factors(grid, 5, floor=1e-12),
        rtol=1e-12,
    )


def test_of_equally_near_points_the_earlier_is_the_neighbour():
    """From 0, with k = 1, both -1 and 1 are at 1; 1 is dense, -1 is not, the order decides."""
    # lrd(-1) = 1, lrd(1) = 1 / 0.5 = 2, lrd(0) = 1 either way.
    points = np.array([[-1.0], [0.0], [1.0], [1.5]])
    assert local_outlier_factors(points, 1, 1e-9)[1] == pytest.approx(1)
    assert local_outlier_factors(points[::-1], 1, 1e-9)[2] == pytest.approx(2)


def test_a_heap_of_equal_points_scores_by_the_resolution():
    """With |D| = 10 a heap scores 1; a point 0.3 away scores 0.3 * 10 = 3, not 1e8."""
    # Heap: all reaches 1/10, lrd 10. The point: kdist 0.3, lrd 1 / 0.3, LOF 10 * 0.3.
    heap = np.array([[0.0], [0.0], [0.0], [0.0], [0.0], [0.3]])
    np.testing.assert_allclose(local_outlier_factors(heap, 3, floor=0.1), [1, 1, 1, 1, 1, 3])
    newcomers = np.array([[0.0], [-0.3], [-1.0]])
    np.testing.assert_allclose(novelty_factors(newcomers, heap, 3, floor=0.1), [1, 3, 10])


def test_rounding_does_not_break_a_heap():
    """Variations equal but for the last bit of a difference count as equal."""
    heap = np.array([[0.3 - 0.2], [0.2 - 0.1], [0.1], [0.4 - 0.3]])
    assert len(np.unique(heap)) > 1
    np.testing.assert_allclose(local_outlier_factors(heap, 2, floor=0.1), 1)


@pytest.mark.parametrize("k", [0, 4])
def test_neighbours_must_exist(k):
    """Four points have one to three neighbours each."""
    with pytest.raises(ValueError, match="4 points have no"):
        local_outlier_factors(LINE, k, 1e-9)


# VALIDATE


def test_validate_by_hand():
    """With variations D, C, B, A of the line above, in hundredths, τ is LOF(A) = 11/12."""
    # l = 4: k = 2, one trusted variation. |D| = 100, so the floor of 1/100 lifts nothing.
    # v_new = 5: φ = 27/20. v_new = 2: B and C at 1, reach 2 and 3, lrd 2/5, φ = 11/12 = τ: clean.
    errors = 0.5 - np.cumsum([0, 0.07, 0.03, 0.01, 0.00])
    profiles = np.column_stack([errors, np.zeros(5)])
    judge = validation.build("lof", minimum_history=5)
    far = judge(profiles, profiles[-1] - [0.05, 0], 100)
    assert far == pytest.approx((True, 27 / 20, 11 / 12))
    tie = judge(profiles, profiles[-1] - [0.02, 0], 100)
    assert tie == pytest.approx((False, 11 / 12, 11 / 12))


@pytest.mark.parametrize("error", np.arange(15, 85, 5) / 100)
def test_a_tie_is_clean_whatever_the_rounding(error):
    """A step back as long as the last step forward scores what that one scored: τ = φ = 3."""
    # l = 4, k = 2: a heap of three unchanged, the trusted v_4 at 0.03, v_new at -0.03, |D| = 100.
    profiles = np.column_stack([error - np.array([0, 0, 0, 0, 0.03]), np.zeros(5)])
    opinion = validation.build("lof", minimum_history=5)(profiles, profiles[-1] + [0.03, 0], 100)
    assert opinion == pytest.approx((False, 3, 3))


@pytest.mark.parametrize(
    ("points", "k", "trusted"), [(2, 1, 1), (10, 5, 2), (20, 10, 5), (30, 15, 7), (5, 3, 1)]
)
def test_counts_of_neighbours_and_trusted_variations(points, k, trusted):
    """Neighbours are half of l, rounded up; trusted a quarter, rounded down, at least one."""
    assert (validate.neighbours(points), validate.trusted_count(points)) == (k, trusted)


def test_validate_is_what_scikit_learn_would_say():
    """On profiles without heaps, φ and τ are made of scikit-learn's scores."""
    profiles, _ = drawn_profiles(22, samples=2000)
    opinion = validation.build("lof")(profiles[:-1], profiles[-1], 2000)
    v = variations(profiles)
    sample = LocalOutlierFactor(n_neighbors=10).fit(v[:-1])
    novelty = LocalOutlierFactor(n_neighbors=10, novelty=True).fit(v[:-1])
    assert opinion.threshold == pytest.approx(-sample.negative_outlier_factor_[-5:].mean())
    assert opinion.score == pytest.approx(-novelty.score_samples(v[-1:])[0])


@pytest.mark.parametrize("history", [11, 21, 31])
@pytest.mark.parametrize("seed", range(3))
def test_a_broken_model_is_poisoned_and_an_unchanged_one_is_not(history, seed):
    """A model that always answers 0, as one of NaN does, is seen; no change is no outlier."""
    profiles, labels = drawn_profiles(history, seed=seed)
    judge = validation.build("lof")
    broken = judge(profiles, error_profile(np.zeros_like(labels), labels, 10), len(labels))
    assert broken.poisoned
    assert broken.score > 3
    assert not judge(profiles, profiles[-1], len(labels)).poisoned


def test_a_single_judge_rejects_many_benign_models():
    """The paper's τ is a mean: one honest voter alone rejects a third to a half of the good."""
    judge = validation.build("lof")
    votes = []
    for seed in range(60):
        profiles, labels = drawn_profiles(22, seed=seed)
        votes.append(judge(profiles[:-1], profiles[-1], len(labels)).poisoned)
    assert 0.2 < np.mean(votes) < 0.6


def test_a_still_history_does_not_blind_the_judge():
    """Where nothing changed for long τ is 1: no change is clean, many new mistakes are not."""
    profiles = np.zeros((21, 20))
    judge = validation.build("lof")
    worse = np.zeros(20)
    worse[[3, 15]] = 0.5
    assert judge(profiles, profiles[-1], 40) == (False, 1.0, 1.0)
    # √(0.5² + 0.5²) * 40 = 20 √2
    assert judge(profiles, worse, 40) == pytest.approx((True, 20 * np.sqrt(2), 1.0))


def test_one_jump_in_a_still_history_does_not_raise_the_threshold_for_ever():
    """A heap with one outlier among the trusted gives a τ in proportion, not of 1e8."""
    profiles = np.zeros((21, 20))
    profiles[-1, [0, 11]] = 1 / 40
    opinion = validation.build("lof")(profiles, profiles[-1], 40)
    # The jump is √2 / 40 from the heap, so it scores √2: τ = (4 + √2) / 5.
    assert opinion.threshold == pytest.approx((4 + np.sqrt(2)) / 5)


def test_a_history_needs_three_models():
    """One variation has no neighbour: fewer than three models are no minimum."""
    with pytest.raises(ValueError, match="minimum_history"):
        validation.build("lof", minimum_history=2)
    profiles, labels = drawn_profiles(4)
    opinion = validation.build("lof", minimum_history=3)(profiles[:3], profiles[3], len(labels))
    assert opinion.threshold > 0


# What every judge promises


@pytest.fixture(params=validation.JUDGES)
def judge(request):
    return validation.build(request.param)


@pytest.mark.parametrize("samples", [4, 500])
@pytest.mark.parametrize("history", [1, 3, 11, 31])
def test_judges_keep_their_contract(judge, history, samples):
    """An opinion is of plain, finite numbers, the same each time, and the input is not written."""
    profiles, _ = drawn_profiles(history + 1, samples=samples)
    profiles.setflags(write=False)
    opinion = judge(profiles[:-1], profiles[-1], samples)
    assert [type(value) for value in opinion] == [bool, float, float]
    assert json.loads(json.dumps(opinion, allow_nan=False)) == list(opinion)
    assert opinion == judge(profiles[:-1], profiles[-1], samples)
    assert opinion.score > opinion.threshold or not opinion.poisoned


def test_judges_accept_while_the_history_is_short(judge):
    """With one accepted model there is nothing to compare with: even nonsense is clean."""
    assert judge(np.zeros((1, 20)), np.full(20, 0.1), 50) == (False, 0.0, 0.0)


def test_mistakes_in_settings_are_explained():
    """A misspelt judge or hyper-parameter is an error that names the right one."""
    with pytest.raises(ValueError, match=r"unknown judge: 'loff'; did you mean 'lof'\?"):
        validation.build("loff")
    with pytest.raises(ValueError, match="did you mean 'minimum_history'"):
        validation.build("lof", minimal_history=5)
