"""Judges of candidate models: error profiles, local outlier factors, VALIDATE, a calibrated one."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np
import pytest
from scipy import stats
from sklearn.neighbors import LocalOutlierFactor

from fedjury import judges
from fedjury.judges import judgements, lof, prediction
from fedjury.judges.calibrated import increases
from fedjury.judges.lof_variants import neighbours, trusted_count
from fedjury.learning.error_profiles import error_profile, variations

LINE = np.array([[0], [1], [3], [7]])
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
    """Count errors of models that err at random, no variation being special; and the labels."""
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


def ask(judge, profiles, candidate):
    """Let one validator judge, by profiles (l+1, 2C)."""
    found = judge(profiles[None], candidate[None])
    return Said(*(values.item() for values in found[:3]))


def seen(judge, profiles, candidate):
    """Return what one validator measured of accepted models and of the candidate, (N + 1,)."""
    return judge(profiles[None], candidate[None]).evidence[0]


def in_sample(points, k):
    """Score points (l, p) among each other, as (l,)."""
    return lof.local_outlier_factors(lof.densities(lof.squares(points[None]), k))[0]


def as_newcomers(queries, reference, k):
    """Score points (q, p) against (l, p), as (q,)."""
    between = lof.squares(np.concatenate([reference, queries])[None])
    known, new = len(reference), slice(len(reference), None)
    return lof.novelty_factors(
        between[:, new, :known], lof.densities(between[:, :known, :known], k)
    )[0]


# Profiles


def test_error_profile_by_hand():
    """Of 4 samples, 0 is called 1, 2 is called 1: sources 0 and 2, twice target 1."""
    profile = error_profile(np.array([1, 0, 1, 1]), np.array([0, 0, 1, 2]), classes=3)
    np.testing.assert_array_equal(profile, [1, 0, 1, 0, 2, 0])


def test_error_profile_of_a_model_without_answers():
    """No class for the first 0, nor for the 2: both are misclassified, and called nothing."""
    profile = error_profile(np.array([-1, 0, 1, -1]), np.array([0, 0, 1, 2]), classes=3)
    np.testing.assert_array_equal(profile, [1, 0, 1, 0, 0, 0])


def test_error_profiles_of_a_batch_are_those_of_each():
    """Many models at once give the rows that they give alone."""
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 5, (7, 40)), rng.integers(0, 5, 40)
    batch = error_profile(predictions, labels, 5)
    assert batch.dtype == np.int64
    np.testing.assert_array_equal(batch, [error_profile(p, labels, 5) for p in predictions])


def test_both_halves_of_a_profile_add_up_to_the_errors():
    """Every mistake has one true class and one claimed class."""
    rng = np.random.default_rng(1)
    predictions, labels = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    halves = error_profile(predictions, labels, 4).reshape(2, 4).sum(axis=1)
    assert halves.tolist() == 2 * [(predictions != labels).sum()]


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
    profiles = np.array([[[2, 1], [1, 2], [1, 0]]])
    np.testing.assert_array_equal(variations(profiles), [[[1, -1], [0, 2]]])


# Local outlier factors


def test_local_outlier_factors_by_hand():
    """Four points on a line score as worked out above."""
    np.testing.assert_allclose(in_sample(LINE, k=2), [11 / 12, 6 / 5, 11 / 12, 11 / 6])


def test_novelty_by_hand():
    """A newcomer at 5 has C and D at 2, reach max(3, 2) and max(6, 2), lrd 2/9, LOF 1.35."""
    # (2/5 + 1/5) / 2 / (2/9) = 27/20
    np.testing.assert_allclose(as_newcomers(np.array([[5]]), LINE, k=2), [27 / 20])


@pytest.mark.parametrize("points", [2, 5, 10, 20, 30])
def test_scores_are_those_of_scikit_learn(points):
    """On random points, in the sample and as newcomers, the scores are scikit-learn's."""
    rng = np.random.default_rng(points)
    reference = rng.integers(-9999, 9999, (points, 20))
    queries = rng.integers(-9999, 9999, (8, 20))
    k = neighbours(points)
    sample = LocalOutlierFactor(n_neighbors=k).fit(reference)
    novelty = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(reference)
    np.testing.assert_allclose(in_sample(reference, k), -sample.negative_outlier_factor_, rtol=1e-8)
    np.testing.assert_allclose(
        as_newcomers(queries, reference, k), -novelty.score_samples(queries), rtol=1e-8
    )


def test_the_floor_changes_nothing_without_heaps():
    """Distinct whole points are at least 1 apart: ten times as far apart they score the same."""
    grid = np.unique(np.random.default_rng(3).integers(-9, 9, (30, 3)), axis=0)
    np.testing.assert_allclose(in_sample(grid, 5), in_sample(10 * grid, 5), rtol=1e-12)


def test_of_equally_near_points_the_earlier_is_the_neighbour():
    """From 0, with k = 1, both -2 and 2 are at 2; 2 is dense, -2 is not, the order decides."""
    # lrd(-2) = 1 / 2, lrd(2) = 1, lrd(0) = 1 / 2 either way.
    points = np.array([[-2], [0], [2], [3]])
    assert in_sample(points, k=1)[1] == pytest.approx(1)
    assert in_sample(points[::-1], k=1)[2] == pytest.approx(2)


def test_a_heap_of_equal_points_scores_by_the_resolution():
    """One error is the finest difference: a heap scores 1, a point 3 away scores 3, not 1e8."""
    # Heap: all reaches 1, lrd 1. The point: kdist 3, lrd 1 / 3, LOF 3.
    heap = np.array([[0], [0], [0], [0], [0], [3]])
    np.testing.assert_allclose(in_sample(heap, 3), [1, 1, 1, 1, 1, 3])
    newcomers = np.array([[0], [-3], [-10]])
    np.testing.assert_allclose(as_newcomers(newcomers, heap, 3), [1, 3, 10])


@pytest.mark.parametrize("k", [0, 4])
def test_neighbours_must_exist(k):
    """Four points have one to three neighbours each."""
    with pytest.raises(ValueError, match="4 points have no"):
        in_sample(LINE, k)


# VALIDATE


def test_validate_by_hand():
    """With variations D, C, B, A of the line above τ is LOF(A) = 11/12."""
    # l = 4: k = 2, one trusted variation. The floor of 1 lifts nothing.
    # v_new = 5: φ = 27/20. v_new = 2: B and C at 1, reach 2 and 3, lrd 2/5, φ = 11/12 = τ: clean.
    errors = 50 - np.cumsum([0, 7, 3, 1, 0])
    profiles = np.column_stack([errors, np.zeros(5, int)])
    judge = judges.build("lof", minimum_history=5)
    far = ask(judge, profiles, profiles[-1] - [5, 0])
    assert far == pytest.approx((True, 27 / 20, 11 / 12))
    tie = ask(judge, profiles, profiles[-1] - [2, 0])
    assert tie == pytest.approx((False, 11 / 12, 11 / 12))
    evidence = seen(judge, profiles, profiles[-1] - [5, 0])
    np.testing.assert_allclose(evidence, np.log([11 / 12, 27 / 20]))


def test_a_tie_is_clean():
    """A step back as long as the last step forward scores what that one scored: τ = φ = 3."""
    # l = 4, k = 2: a heap of three unchanged, the trusted v_4 at 3, v_new at -3.
    profiles = np.column_stack([50 - np.array([0, 0, 0, 0, 3]), np.zeros(5, int)])
    judge = judges.build("lof", minimum_history=5)
    assert ask(judge, profiles, profiles[-1] + [3, 0]) == (False, 3, 3)


FOUND_IN_THE_FIELD = [[3, 2, 0, 0], [3, 3, 2, 1], [3, 2, 3, 0], [3, 1, 1, 2]], [3, 2, 1, 3]
"""Errors of four accepted models, and of a candidate, on 30 samples in two classes. By hand:

v_1 = (0, -1, -2, -1), v_2 = (0, 1, -1, 1), v_3 = (0, 1, 2, -2), v_new = (0, -1, 0, -1); k = 2
d²: v_1 v_2 = 9, v_1 v_3 = 21, v_2 v_3 = 18, v_new v_1 = 4, v_new v_2 = 9, v_new v_3 = 9
kdist² = 21, 18, 21. v_2 and v_3 are equally far from v_new: v_2, the earlier, is its neighbour.
reach² of v_1: 18 of v_2, 21 of v_3;  of v_2: 21, 21;  of v_3: 18 of v_2, 21 of v_1
With r = √18 + √21 and s = 2 √21: lrd = 2/r, 2/s, 2/r;  v_new: 21 of v_1, 18 of v_2: 2/r
τ = LOF(v_3) = (2/s + 2/r) / 2 / (2/r) = (r/s + 1) / 2 = .9815
φ = (2/r + 2/s) / 2 / (2/r), the same: clean

In thirtieths rounding made v_3 the nearer of the two: (2/r + 2/r) / 2 / (2/s) = 1.0385, poisoned.
"""


def test_of_equal_distances_no_root_decides():
    """Distances that tie in whole numbers tie, though their roots in thirtieths would differ."""
    profiles, candidate = map(np.array, FOUND_IN_THE_FIELD)
    ratio = (np.sqrt(18) + np.sqrt(21)) / (2 * np.sqrt(21))
    said = ask(judges.build("lof", minimum_history=4), profiles, candidate)
    assert said == pytest.approx((False, (1 + ratio) / 2, (1 + ratio) / 2))


@pytest.mark.parametrize(
    ("points", "k", "trusted"), [(2, 1, 1), (10, 5, 2), (20, 10, 5), (30, 15, 7), (5, 3, 1)]
)
def test_counts_of_neighbours_and_trusted_variations(points, k, trusted):
    """Neighbours are half of l, rounded up; trusted a quarter, rounded down, at least one."""
    assert (neighbours(points), trusted_count(points)) == (k, trusted)


def with_fifty_digits(reading, models):
    """Work out τ and φ of counts (l + 2, p), the last of the candidate, from the definitions."""
    v = [[a - b for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(models)]
    new, last = len(v) - 1, max(1, (len(v) - 1) // 4)

    def square(i, j):
        return sum((a - b) ** 2 for a, b in zip(v[i], v[j], strict=True))

    def factor(i, others):
        k = (len(others) - (reading == "D") + 1) // 2

        def nearest(p):
            return sorted((j for j in others if j != p), key=lambda j: (square(p, j), j))[:k]

        def density(p):
            far = {o: square(o, nearest(o)[-1]) for o in nearest(p)}
            return k / sum(Decimal(max(far[o], square(p, o), 1)).sqrt() for o in far)

        return sum(map(density, nearest(i))) / k / density(i)

    def others(i):
        if reading == "D":
            return range(new + 1)
        if i == new or reading == "A":
            return range(new)
        return range(i) if reading == "B" else [j for j in range(new) if j != i]

    trusted = [factor(i, others(i)) for i in range(new - last, new)]
    return sum(trusted) / last, factor(new, others(new))


WORKED = {
    # k = 4. Known: lrd(v_7) = 4 / 13, of 4 to v_8 and 3 to three of the heap;
    # lrd(v_8) = 4 / 15, of 3 to v_7 and 4 to three. v_new: 4 and 3 to them, 5 to two.
    "A": (((4 / 15 + 3) * 13 + (4 / 13 + 3) * 15) / 32, (4 / 15 + 4 / 13 + 2) * 17 / 16),
    # v_7 comes to a heap of six, k = 3: 3. v_8 comes to a heap, k = 4, where v_7 with
    # kdist 3 has lrd 1 / 3: reaches 3 and three times 4.
    "B": ((3 + (1 / 3 + 3) * 15 / 16) / 2, (4 / 15 + 4 / 13 + 2) * 17 / 16),
    # v_8 as in B. v_7 comes where v_8 with kdist 4 has lrd 1 / 4: 4 and three times 3.
    "C": (((1 / 4 + 3) * 13 + (1 / 3 + 3) * 15) / 32, (4 / 15 + 4 / 13 + 2) * 17 / 16),
    # kdist 3, 4, 5; v_7: 4 5 3 3; v_8: 3 5 4 4; v_new: 4 3 5 5.
    "D": (
        ((1 / 4 + 4 / 17 + 2) * 15 + (4 / 15 + 4 / 17 + 2) * 16) / 32,
        (4 / 15 + 1 / 4 + 2) * 17 / 16,
    ),
}
"""τ and φ by reading, of six variations of 0, v_7 = 3, v_8 = 4, v_new = 5.

The heap of six has the lrd of the floor, 1.
"""


@pytest.mark.parametrize("reading", WORKED)
def test_readings_by_hand(reading):
    """Each reading scores the trusted against its own set, which gives another threshold."""
    errors = 50 - np.cumsum([0, 0, 0, 0, 0, 0, 0, 3, 4, 5])
    profiles = np.column_stack([errors, np.zeros(10, int)])
    judge = judges.build("lof", minimum_history=9, reading=reading)
    threshold, score = WORKED[reading]
    assert ask(judge, profiles[:-1], profiles[-1]) == pytest.approx(
        (score > threshold, score, threshold)
    )


@pytest.mark.parametrize("reading", WORKED)
def test_no_rounding_decides_a_vote(reading):
    """Of 60 histories full of ties none is judged otherwise with fifty digits; equal is clean."""
    draw = np.random.default_rng(8)
    judge = judges.build("lof", minimum_history=4, reading=reading)
    ties = 0
    for _ in range(60):
        models = draw.binomial(20, draw.choice([0.003, 0.1]), (draw.integers(5, 12), 4))
        with localcontext() as context:
            context.prec = 50
            threshold, score = with_fifty_digits(reading, models.tolist())
            equal = abs(score - threshold) < Decimal("1e-40")
        found = (not equal and score > threshold, float(score), float(threshold))
        said = ask(judge, models[:-1], models[-1])
        assert (said.poisoned, *said[1:]) == (found[0], *map(pytest.approx, found[1:]))
        ties += equal
    assert ties


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
    profiles = np.random.default_rng(known).integers(0, 9999, (known + 2, 20))
    judge = judges.build("lof", reading=reading)
    opinion = ask(judge, profiles[:-1], profiles[-1])
    expected = by_scikit_learn(reading, variations(profiles[None])[0], known)
    assert (opinion.threshold, opinion.score) == pytest.approx(expected)


@pytest.mark.parametrize(("reading", "least"), [("A", 3), ("B", 4), ("C", 4), ("D", 3)])
def test_readings_need_points_to_compare_with(reading, least):
    """A fitted point needs a neighbour: a shorter minimum is an error, the shortest works."""
    with pytest.raises(ValueError, match=f"minimum_history must be {least} models at least"):
        judges.build("lof", minimum_history=least - 1, reading=reading)
    profiles, _ = drawn_profiles(least + 1)
    judge = judges.build("lof", minimum_history=least, reading=reading)
    assert ask(judge, profiles[:-1], profiles[-1]).threshold > 0


def test_unknown_readings_are_explained():
    """A reading that does not exist is an error that lists those that do."""
    with pytest.raises(ValueError, match=r"unknown reading of judge 'lof': 'E'.*A, B, C, D"):
        judges.build("lof", reading="E")


def test_a_single_judge_rejects_many_benign_models():
    """The paper's τ is a mean: one honest voter alone rejects a third to a half of the good."""
    judge = judges.build("lof")
    votes = []
    for seed in range(60):
        profiles, _ = drawn_profiles(22, seed=seed)
        votes.append(ask(judge, profiles[:-1], profiles[-1]).poisoned)
    assert 0.2 < np.mean(votes) < 0.6


@pytest.mark.parametrize("reading", WORKED)
def test_a_still_history_does_not_blind_validate(reading):
    """Where nothing changed for long τ is 1: no change is clean, many new mistakes are not."""
    profiles = np.zeros((21, 20), int)
    judge = judges.build("lof", reading=reading)
    worse = np.zeros(20, int)
    worse[[3, 15]] = 20
    assert ask(judge, profiles, profiles[-1]) == (False, 1.0, 1.0)
    # √(20² + 20²) = 20 √2
    assert ask(judge, profiles, worse) == pytest.approx((True, 20 * np.sqrt(2), 1.0))


@pytest.mark.parametrize("reading", WORKED)
def test_one_jump_in_a_still_history_does_not_raise_the_threshold_for_ever(reading):
    """A heap with one outlier among the trusted gives a τ in proportion, not of 1e8."""
    profiles = np.zeros((21, 20), int)
    profiles[-1, [0, 11]] = 1
    opinion = ask(judges.build("lof", reading=reading), profiles, profiles[-1])
    # The jump is √2 from the heap, so it scores √2: τ = (4 + √2) / 5.
    assert opinion.threshold == pytest.approx((4 + np.sqrt(2)) / 5)


# The calibrated judge

FOUR = np.array([[0, 2], [0, 2], [1, 2], [1, 2]])[:, [0, 1, 1, 0]]
"""Errors of four models in two classes: two kinds rise together, two stay. By hand:

w = 2. The third model, after 0 and 0: z = 1 / √(0 + 0 + 1) = 1, twice: T = √2
The fourth, after 0 and 1: σ² = 1/2, z² = (1/2)² / (1/2 + 1/2 + 1) = 1/8, twice: T = 1/2
A candidate at 3, after 1 and 1: z² = 2² / (0 + 1 + 1) = 2, twice: T = 2
"""

RISEN = np.array([3, 1, 1, 3])
"""That candidate; its other errors fall, which does not count."""


def test_increases_by_hand():
    """Increases are measured against the models before, falling errors count as none."""
    models = np.concatenate([FOUR, RISEN[None]])[None]
    np.testing.assert_allclose(increases(models, 2), [[np.sqrt(2), 1 / 2, 2]])


@pytest.mark.parametrize(("false_alarm", "poisoned"), [(0.02, False), (0.25, False), (0.3, True)])
def test_calibrated_by_hand(false_alarm, poisoned):
    """The score is in standard deviations of the next draw, the threshold Student's quantile."""
    # N = 2: t of one degree of freedom, whose quantiles are tan(π (1/2 - false_alarm)).
    past = np.log([np.sqrt(2) + 0.1, 0.6])
    spread = (past[0] - past[1]) / np.sqrt(2)
    score = (np.log(2.1) - past.mean()) / (spread * np.sqrt(3 / 2))
    judge = judges.build("calibrated", minimum_history=4, false_alarm=false_alarm)
    threshold = np.tan(np.pi * (0.5 - false_alarm))
    assert ask(judge, FOUR, RISEN) == pytest.approx((poisoned, score, threshold))
    assert score == pytest.approx(0.98528, abs=1e-5)
    np.testing.assert_array_equal(seen(judge, FOUR, RISEN), np.float32([*past, np.log(2.1)]))


def benign_profiles(models, noise, seed=0):
    """Profile benign models of 4,000 federations: rates that fluctuate by round, counted on 500."""
    rng = np.random.default_rng(seed)
    rate = rng.lognormal(-5, 0.5, (4000, 1, 20))
    common, own = rng.normal(0, 0.1, (4000, models, 1)), rng.normal(0, noise, (4000, models, 20))
    return rng.binomial(500, np.minimum(rate * np.exp(common + own), 1))


@pytest.mark.parametrize("history", [11, 21])
@pytest.mark.parametrize(("noise", "least", "most"), [(0.3, 0.3, 1.0), (1.0, 0.7, 1.3)])
def test_the_rate_of_false_alarms_is_the_setting(noise, least, most, history):
    """Benign models are rejected as often as was asked for; where rates are calm, more rarely."""
    profiles = benign_profiles(history + 1, noise)
    for false_alarm in (0.02, 0.05, 0.1):
        judge = judges.build("calibrated", false_alarm=false_alarm)
        rate = judge(profiles[:, :-1], profiles[:, -1]).poisoned.mean()
        assert least * false_alarm < rate < most * false_alarm


@pytest.mark.parametrize("false_alarm", [0.001, 0.02, 0.5])
def test_a_still_history_does_not_blind_the_calibrated_judge(false_alarm):
    """Where nothing changed for long, no change is clean, many new mistakes are not."""
    profiles, worse = np.zeros((21, 20), int), np.zeros(20, int)
    worse[[3, 15]] = 20
    judge = judges.build("calibrated", false_alarm=false_alarm)
    still = ask(judge, profiles, profiles[-1])
    assert not still.poisoned
    assert still.score == pytest.approx(0)
    # T = 20 √2; s is at its floor of 0.1; w = 10, N = 11.
    score = np.log(20 * np.sqrt(2) / 0.1 + 1) / (0.1 * np.sqrt(12 / 11))
    assert ask(judge, profiles, worse)[:2] == pytest.approx((True, score))


@pytest.mark.parametrize("seed", range(5))
def test_an_improvement_is_clean(seed):
    """A model with half of all errors gone is no threat, however unusual it is."""
    profiles, _ = drawn_profiles(21, seed=seed)
    opinion = ask(judges.build("calibrated"), profiles, profiles.min(axis=0) // 2)
    assert not opinion.poisoned
    assert opinion.score < 0


@pytest.mark.parametrize(
    "settings", [{"minimum_history": 3}, {"false_alarm": 0.0}, {"false_alarm": 0.51}]
)
def test_the_calibrated_judge_refuses_what_cannot_work(settings):
    """It takes four models, and a rate of false alarms above none and up to a half."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        judges.build("calibrated", **settings)


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
EVIDENCE |= {("auto", models): EVIDENCE["calibrated", models] for models in (11, 31)}
"""Numbers of evidence with so many accepted models: the trusted, or T of the later half, and one.

Of l = 10 variations 2 are trusted, of 30 are 7. T is there from model 11 // 2 or 31 // 2 on.
"""


@pytest.mark.parametrize(("name", "models"), EVIDENCE)
def test_evidence_is_of_accepted_models_and_the_candidate(name, models):
    """Another candidate changes the last number alone."""
    judge = judges.build(name)
    profiles, _ = drawn_profiles(models + 2)
    first, second = (seen(judge, profiles[:models], profiles[i]) for i in (-2, -1))
    assert len(first) == len(second) == EVIDENCE[name, models]
    np.testing.assert_array_equal(first[:-1], second[:-1])
    assert first[-1] != second[-1]


EVERY = [*((name, {}) for name in judges.JUDGES), *(("lof", {"reading": r}) for r in "BCD")]


@pytest.fixture(params=EVERY, ids=str)
def judge(request):
    name, settings = request.param
    return judges.build(name, **settings)


@pytest.mark.parametrize("samples", [4, 500])
@pytest.mark.parametrize("history", [1, 3, 11, 31])
def test_judges_keep_their_contract(judge, history, samples):
    """An opinion is of plain, finite numbers, the same each time, and the input is not written."""
    profiles, _ = drawn_profiles(history + 1, samples=samples)
    profiles.setflags(write=False)
    found = judge(profiles[None, :-1], profiles[None, -1])
    kinds = [(values.dtype, values.shape) for values in found[:3]]
    assert kinds == [(bool, (1,)), (float, (1,)), (float, (1,))]
    assert (found.evidence.dtype, len(found.evidence)) == (float, 1)
    assert np.isfinite(found.evidence).all()
    opinion = ask(judge, profiles[:-1], profiles[-1])
    assert json.loads(json.dumps(opinion, allow_nan=False)) == list(opinion)
    assert opinion == ask(judge, profiles[:-1], profiles[-1])
    assert opinion.score > opinion.threshold or not opinion.poisoned


@pytest.mark.parametrize("history", [3, 11, 20])
@pytest.mark.parametrize("validators", [0, 1, 2, judgements.BLOCK + 7])
def test_judging_together_is_judging_alone(judge, validators, history):
    """Each of many validators, in order, gets bit for bit what it would say alone."""
    rng = np.random.default_rng(validators)
    profiles = rng.binomial(50, 0.03, (validators, history + 1, 20))
    together = judge(profiles[:, :-1], profiles[:, -1])
    assert [len(values) for values in together] == 4 * [validators]
    alone = [ask(judge, own[:-1], own[-1]) for own in profiles]
    assert list(zip(*(values.tolist() for values in together[:3]), strict=True)) == alone
    for own, row in zip(profiles, together.evidence, strict=True):
        np.testing.assert_array_equal(seen(judge, own[:-1], own[-1]), row)
    # However the array lies in memory.
    again = judge(np.asfortranarray(profiles[:, :-1]), profiles[:, -1])
    for one, other in zip(again, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_judges_accept_while_the_history_is_short(judge):
    """With one accepted model there is nothing to compare with: even nonsense is clean."""
    assert ask(judge, np.zeros((1, 20), int), np.full(20, 5)) == (False, 0.0, 0.0)
    assert seen(judge, np.zeros((1, 20), int), np.full(20, 5)).shape == (0,)


@pytest.mark.parametrize("history", [11, 21, 31])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("answer", [0, -1])
def test_a_broken_model_is_poisoned(judge, history, seed, answer):
    """A model that always answers 0 is seen, and one of NaN, which has no class for anything."""
    profiles, labels = drawn_profiles(history, seed=seed)
    broken = error_profile(np.full_like(labels, answer), labels, 10)
    opinion = ask(judge, profiles, broken)
    assert opinion.poisoned
    assert opinion.score > 1.5 * opinion.threshold


@pytest.mark.parametrize("history", [11, 21, 31])
@pytest.mark.parametrize(("name", "settings"), EVERY[:-1], ids=str)
def test_an_unchanged_model_is_seldom_poisoned(name, settings, history):
    """No change is no outlier, but by reading D, where it makes the trusted look less like some."""
    judge = judges.build(name, **settings)
    profiles = np.stack([drawn_profiles(history, seed=seed)[0] for seed in range(50)])
    assert judge(profiles, profiles[:, -1]).poisoned.mean() < 0.1


def test_mistakes_in_settings_are_explained():
    """A misspelt judge or hyper-parameter is an error that names the right one."""
    with pytest.raises(ValueError, match=r"unknown judge: 'loff'; did you mean 'lof'\?"):
        judges.build("loff")
    with pytest.raises(ValueError, match="did you mean 'minimum_history'"):
        judges.build("lof", minimal_history=5)
    with pytest.raises(ValueError, match="false_alarm of judge 'calibrated' must be float"):
        judges.build("calibrated", false_alarm="2%")
