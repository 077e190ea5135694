"""Rules that weigh, clip or add updates: from the geometric median to FoundationFL."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity
from support.updates import HUGE, build, honest_updates, matrix, ones, random_updates

from fedjury import rules
from fedjury.rules import Context

# Geometric median


def test_geometric_median_by_hand():
    """Of a convex quadrilateral it is where the diagonals meet: y = x and y = 2 - x / 2."""
    updates = matrix([0, 0], [4, 0], [4, 4], [0, 2])
    result = build("geometric_median")(updates, ones(4))
    np.testing.assert_allclose(result, [4 / 3, 4 / 3], rtol=1e-6)


@pytest.mark.parametrize("longer", [1, 1e6])
def test_geometric_median_has_the_least_sum_of_distances(longer):
    """The slope of that sum is zero: unit vectors to all updates, fakes or not, cancel."""
    updates = random_updates(21, 50)
    updates[:6] *= longer
    apart = updates - build("geometric_median")(updates, ones(21)).astype(np.float64)
    directions = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    np.testing.assert_allclose(directions.sum(axis=0), 0, atol=1e-5)


def test_geometric_median_of_what_is_nearly_the_same():
    """Eleven updates of 200 values near 1000, a thousandth apart, by Weiszfeld's steps.

    The result is within half of float32's last digit there, which is 2 ** -14.
    """
    updates = (1000 + 1e-3 * random_updates(11, 200)).astype(np.float32)
    exact = updates.astype(np.float64)
    centre = exact.mean(axis=0)
    for _ in range(200):
        weights = 1 / np.linalg.norm(exact - centre, axis=1)
        centre = weights @ exact / weights.sum()
    result = build("geometric_median")(updates, ones(11))
    np.testing.assert_allclose(result, centre, rtol=0, atol=2**-15 * 1.001)


def test_geometric_median_sees_past_what_all_have_in_common():
    """The quadrilateral from above, a hundredth in size, beside a million and beside its like."""
    corners = matrix([0, 0], [4, 0], [4, 4], [0, 2]) / 128
    updates = np.column_stack([np.full((4, 2), [1e6, -1e6], np.float32), corners])
    result = build("geometric_median")(updates, ones(4))
    np.testing.assert_allclose(result, [1e6, -1e6, 1 / 96, 1 / 96], rtol=1e-5)


# Centered clipping


def test_centered_clipping_by_hand():
    """From 0 with tau 5, (3, 4) stays and (0, 20) becomes (0, 5): the mean is (1.5, 4.5).

    From (0, 20) the differences are (3, -16) and 0; the first, of norm √265, is cut to 5.
    """
    updates, rule = matrix([3, 4], [0, 20]), build("centered_clipping", tau=5.0, iterations=1)
    np.testing.assert_allclose(rule(updates, ones(2)), [1.5, 4.5])
    moved = rule(updates, ones(2), Context(previous=matrix([0, 20])[0]))
    half = 5 / 265**0.5 / 2
    np.testing.assert_allclose(moved, [3 * half, 20 - 16 * half], rtol=1e-6)


def test_centered_clipping_starts_anew_from_what_is_not_finite():
    """A step of NaN that was accepted once does not stay for ever."""
    rule, updates = build("centered_clipping"), random_updates(5, 3)
    bad = Context(previous=matrix([np.nan, 0, 0])[0])
    np.testing.assert_array_equal(rule(updates, ones(5), bad), rule(updates, ones(5)))


def test_one_update_moves_centered_clipping_by_a_share_of_tau():
    """One fake of ten moves the result by tau / 10 in an iteration, however long it is."""
    updates = np.zeros((10, 4), dtype=np.float32)
    updates[3] = HUGE
    result = build("centered_clipping", tau=2.0, iterations=1)(updates, ones(10))
    np.testing.assert_allclose(np.linalg.norm(result), 0.2, rtol=1e-6)


# FLTrust


def test_fltrust_by_hand():
    """With (2, 0) of the server's own, (1, 0) is trusted by 1 and (3, 4) by 0.6, each made 2 long.

    (2, 0) + 0.6 (1.2, 1.6) = (2.72, 0.96), divided by 1.6. The rest points elsewhere: trust 0.
    """
    updates = matrix([1, 0], [0, 5], [-1, 0], [3, 4], [0, 0], [np.inf, 1])
    context = Context(server_update=matrix([2, 0])[0])
    result = build("fltrust")(updates, ones(6), context)
    np.testing.assert_allclose(result, [1.7, 0.6], rtol=1e-6)


@pytest.mark.parametrize("own", [[0, 0], [-1, 0], [np.nan, 0], [np.inf, 0]])
def test_fltrust_without_trust_stands_still(own):
    """Where the server has no direction, or nobody shares it, the result is zero."""
    result = build("fltrust")(
        matrix([1, 0], [2, 0]), ones(2), Context(server_update=matrix(own)[0])
    )
    np.testing.assert_array_equal(result, [0, 0])


def test_fltrust_needs_the_servers_own_update():
    """Its mark says that it does, and so does the rule when there is none."""
    assert rules.RULES.facts("fltrust").needs == {rules.Need.SERVER_UPDATE}
    with pytest.raises(ValueError, match="needs an update of the server's own"):
        build("fltrust")(random_updates(3, 2), ones(3))


# FLAME


def test_flame_by_hand():
    """Norms 1, 2, 3, 4 and 100, the last one pointing back: the median is 3.

    The first four are clipped to 1, 2, 3, 3, whose mean is 2.25.
    """
    updates = matrix([1, 0], [2, 0], [3, 0], [4, 0], [-100, 0])
    np.testing.assert_allclose(build("flame", noise=0.0)(updates, ones(5)), [2.25, 0])


def test_flame_by_definition():
    """On updates with a direction in common and others without, it is scikit-learn's."""
    updates = np.concatenate([honest_updates(30, 60), random_updates(12, 60)])
    distances = cosine_distances(updates.astype(np.float64))
    labels = (
        HDBSCAN(
            min_cluster_size=22,
            min_samples=1,
            allow_single_cluster=True,
            metric="precomputed",
            copy=True,
        )
        .fit(distances)
        .labels_
    )
    norms = np.linalg.norm(updates, axis=1)
    clipped = updates * np.minimum(1, np.median(norms) / norms)[:, None]
    assert 20 < (labels == 0).sum() <= 30
    result = build("flame", noise=0.0)(updates, ones(42))
    np.testing.assert_allclose(result, clipped[labels == 0].mean(axis=0), rtol=1e-4, atol=1e-6)


def test_flames_noise_is_a_share_of_the_median_norm():
    """Around equal updates of norm 100 it varies by 0.1, again in each round."""
    updates = np.full((5, 10_000), 1, dtype=np.float32)
    first, second = (build("flame")(updates, ones(5), Context(round=r)) - 1 for r in (1, 2))
    np.testing.assert_allclose([first.std(), second.std()], 0.1, rtol=0.05)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


# FoolsGold


def foolsgold(history):
    """Weigh histories as the paper's pseudo-code does, in loops."""
    n = len(history)
    similar = cosine_similarity(history) - np.eye(n)
    most = similar.max(axis=1)
    for i in range(n):
        for j in range(n):
            if most[j] > most[i]:
                similar[i, j] *= most[i] / most[j]
    weights = np.clip(1 - similar.max(axis=1), 0, 1)
    weights /= weights.max()
    with np.errstate(divide="ignore"):
        return np.clip(np.log(weights / (1 - weights)) + 0.5, 0, 1)


@pytest.mark.parametrize("past", [False, True])
def test_foolsgold_by_definition(past):
    """With sybils, near sybils and honest agents it gives the weights of the pseudo-code."""
    rng = np.random.default_rng(1)
    near = 1 + 0.4 * rng.standard_normal((5, 30))
    updates = np.concatenate([near, np.full((2, 30), 2), 1 + 2 * rng.standard_normal((8, 30))])
    updates = updates.astype(np.float32)
    before = honest_updates(15, 30) if past else None
    weights = foolsgold(updates + (before if past else 0))
    assert 0 < weights.min() + (weights == 0).sum() < 15  # the case is worth looking at
    result = build("foolsgold")(updates, ones(15), Context(update_sums=before))
    np.testing.assert_allclose(result, weights @ updates / weights.sum(), rtol=1e-4, atol=1e-6)


def test_foolsgold_remembers():
    """Two agents that differ today but always said the same before are sybils: weight 0."""
    assert rules.RULES.facts("foolsgold").needs == {rules.Need.UPDATE_SUMS}
    updates = matrix([1, 0, 0], [0, 1, 0], [0, 0, 1])
    past = matrix([0, 1e9, 0], [0, 1e9, 0], [0, 0, 1])
    np.testing.assert_array_equal(build("foolsgold")(updates, ones(3)), [np.float32(1 / 3)] * 3)
    result = build("foolsgold")(updates, ones(3), Context(update_sums=past))
    np.testing.assert_allclose(result, [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("unit", [1e-3, 1e-6])
def test_foolsgold_tells_small_angles_apart(unit):
    """Histories at the angles 0, 1 and 3: 1 - cosine is 1/2, 4/2 and 9/2, in units squared.

    The third is pardoned what it shares with the second, 2 + 2 - 1/2 = 3.5, and with the first,
    4.5 + 2 - 1/2 = 6. The others keep 1/2: a seventh of 3.5, whose logit ln(1/6) + 1/2 is below 0.
    """
    updates = matrix([1000, 0], [1000, 1000 * unit], [1000, 3000 * unit])
    result = build("foolsgold")(updates, ones(3))
    np.testing.assert_array_equal(result, updates[2])


def test_foolsgold_trusts_nobody_where_all_are_the_same():
    """Agents who all say the same, at any length, are all sybils: the result is zero."""
    updates = np.outer([1, 2, 5], [3, 1, 2]).astype(np.float32)
    np.testing.assert_array_equal(build("foolsgold")(updates, ones(3)), [0, 0, 0])


def test_foolsgold_leaves_out_who_ever_sent_nan():
    """A past that is not finite says enough of its sender."""
    updates, past = np.eye(3, dtype=np.float32), np.zeros((3, 3), dtype=np.float32)
    past[1, 2] = np.nan
    result = build("foolsgold")(updates, ones(3), Context(update_sums=past))
    np.testing.assert_array_equal(result, [0.5, 0, 0.5])


# SignGuard


def test_signguard_by_hand():
    """Norms 1, 2, 3, 2 and 100: 100 is longer than 3 medians, and one of the 2 points back.

    Clipped to the median 2, the others are 1, 2, 2 long: 5 / 3 on average.
    """
    lengths = matrix([1], [2], [3], [-2], [100])
    updates = lengths * np.full(16, 0.25, dtype=np.float32)
    result = build("signguard")(updates, ones(5))
    np.testing.assert_allclose(result, np.full(16, 0.25 * 5 / 3), rtol=1e-6)


def test_signguard_drops_what_is_too_short():
    """Updates shorter than a tenth of the median norm say nothing, and are not counted."""
    updates = matrix([1, 1], [1, 1], [1, 1], [0.05, 0.05])
    result = build("signguard", coordinates=1.0)(updates, ones(4))
    np.testing.assert_allclose(result, [1, 1])


def test_signguard_finds_no_groups_among_three():
    """Half of three is one, the nearest of which is itself: all pass, whatever their signs."""
    updates = matrix([1, 1, 1, 1], [1, 1, 1, -1], [1, 1, -1, -1])
    result = build("signguard", coordinates=1.0)(updates, ones(3))
    np.testing.assert_allclose(result, [1, 1, 1 / 3, -1 / 3], rtol=1e-6)


def test_signguard_sees_signs_alone():
    """Fakes of honest length that turn a third of the signs around are left out."""
    honest = np.abs(honest_updates(30, 400))
    fakes = honest[:8] * np.where(np.arange(400) % 3, 1, -1).astype(np.float32)
    result = build("signguard")(np.concatenate([fakes, honest]), ones(38))
    assert (result > 0).all()


# FoundationFL


def test_foundationfl_by_hand():
    """Of 0, 1, 2, 3, 10 it is 3 that stays farthest from 0 and 10, and is added twice (5 / 2).

    Without the ends, 1 + 2 + 3 * 3 = 12 over 5; with one copy, 1 + 2 + 3 + 3 = 9 over 4; with five,
    1 + 2 + 6 * 3 = 21 over 8. The median of 0, 1, 2, 3, 3, 3, 10 is 3.
    """
    updates = matrix([0], [1], [2], [3], [10])
    for options in ({"count": 1}, {"share": 0.2}, {"count": 1, "copied": "highest"}):
        np.testing.assert_allclose(build("foundationfl", **options)(updates, ones(5)), [12 / 5])
    np.testing.assert_array_equal(build("foundationfl", synthetic=1)(updates, ones(5)), [9 / 4])
    np.testing.assert_array_equal(build("foundationfl", synthetic=5)(updates, ones(5)), [21 / 8])
    np.testing.assert_array_equal(build("foundationfl", base="median")(updates, ones(5)), [3])


def test_foundationfl_of_the_lowest_score_by_hand():
    """Of (0, 0), (4, 0), (5, 1), (1, 2) the extremes are (5, 2) and (0, 0).

    The squared scores are 0, min(1 + 4, 16) = 5, min(1, 26) = 1 and min(16, 5) = 5: twice (0, 0).
    Its column 0, 0, 0, 1, 4, 5 without an end is 5 / 4, the other 0, 0, 0, 0, 1, 2 is 1 / 4. The
    highest is (4, 0), the first of two: 0, 1, 4, 4, 4, 5 is 13 / 4, and 0, 0, 0, 0, 1, 2 again.
    """
    updates = matrix([0, 0], [4, 0], [5, 1], [1, 2])
    lowest = build("foundationfl", copied="lowest", count=1)(updates, ones(4))
    np.testing.assert_array_equal(lowest, [5 / 4, 1 / 4])
    highest = build("foundationfl", copied="highest", count=1)(updates, ones(4))
    np.testing.assert_array_equal(highest, [13 / 4, 1 / 4])


def test_foundationfl_in_many_blocks(monkeypatch):
    """The result does not depend on how many columns are looked at at a time."""
    updates = random_updates(9, 50)
    whole = build("foundationfl")(updates, ones(9))
    monkeypatch.setattr("fedjury.rules.blocks.BLOCK", 40)
    monkeypatch.setattr("fedjury.rules.foundationfl.BLOCK", 40)
    np.testing.assert_array_equal(build("foundationfl")(updates, ones(9)), whole)


@pytest.mark.parametrize(("copied", "held"), [("highest", False), ("lowest", True)])
def test_foundationfl_under_fakes_on_both_sides(copied, held):
    """MPAF's fakes are up here and down there, far from both extremes: the highest score.

    As printed they are copied: 10 + 25 of 75 are fakes, and 10 are trimmed at each end. With the
    lowest score an honest update is copied.
    """
    honest = honest_updates(40, 100)
    fakes = np.tile(1e6 * np.where(np.arange(100) % 2, 1, -1), (10, 1))
    updates = np.concatenate([fakes, honest]).astype(np.float32)
    result = np.abs(build("foundationfl", copied=copied)(updates, ones(50)))
    assert result.max() < 10 if held else result.min() > 1e5


@pytest.mark.parametrize(("copied", "held"), [("highest", True), ("lowest", False)])
def test_foundationfl_under_fakes_that_are_an_extreme(copied, held):
    """Fakes above all others in each coordinate have the score 0, the lowest."""
    honest = honest_updates(40, 100)
    updates = np.concatenate([honest[:10] + np.float32(1e6), honest])
    result = build("foundationfl", copied=copied)(updates, ones(50))
    assert result.max() < 10 if held else result.min() > 1e5


# Mistakes


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        (
            "geometric_median",
            {"nu": 0.0},
            "nu of rule 'geometric_median' must be float greater than 0",
        ),
        ("geometric_median", {"iterations": 0}, "must be int greater than or equal to 1"),
        (
            "centered_clipping",
            {"tau": -1.0},
            r"tau of rule .* must be float greater than 0, not -1\.0",
        ),
        ("centered_clipping", {"iterations": 0}, "must be int greater than or equal to 1"),
        ("flame", {"noise": -0.1}, "noise .* must be float greater than or equal to 0"),
        ("foolsgold", {"confidence": 0.0}, "confidence .* must be float greater than 0"),
        ("signguard", {"low": 2.0}, r"must enclose the median, not \[2\.0, 3\.0\]"),
        ("signguard", {"coordinates": 0.0}, "coordinates .* must be float greater than 0"),
        ("foundationfl", {"base": "mean"}, "must be 'trimmed_mean' or 'median', not 'mean'"),
        ("foundationfl", {"synthetic": -1}, "synthetic .* must be int greater than or equal to 0"),
        ("foundationfl", {"copied": "argmax"}, "must be 'highest' or 'lowest', not 'argmax'"),
        ("foundationfl", {"count": 1, "share": 0.1}, "not by both"),
    ],
)
def test_mistakes_in_settings_are_explained(name, hyperparameters, message):
    """A value that cannot be meant is an error that says what would be right."""
    with pytest.raises(ValueError, match=message):
        build(name, **hyperparameters)


def test_foundationfl_needs_an_honest_majority():
    """Four updates of which two are Byzantine are too few."""
    with pytest.raises(ValueError, match="FoundationFL needs at least 5 updates to withstand 2"):
        build("foundationfl", count=2)(random_updates(4, 3), ones(4))
