"""Aggregation rules."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from support.updates import HUGE, TINY, build, honest_updates, matrix, ones, random_updates, told

from fedjury import rules
from fedjury.config.settings import load
from fedjury.learning.partition import partition_spec_of

CASES = [
    *((name, {}) for name in rules.RULES),
    ("mean", {"weighted": True}),
    ("flame", {"noise": 0.0}),
    ("foundationfl", {"base": "median"}),
    ("foundationfl", {"copied": "lowest"}),
]
"""Every rule of the table as it comes, and variants that deserve the same promises."""

UNEQUAL = {
    "flame": "adds noise",
    "foolsgold": "takes those who send the same for sybils",
    "fedadam": "takes steps of another length",
    "fedyogi": "takes steps of another length",
}
"""Rules that, as they come, do not give the update that all agree on, and why."""

BY_NAN = {
    "mean": "leaves nobody out",
    **dict.fromkeys(["fedavgm", "fedadam", "fedyogi"], "stand on the mean unless told otherwise"),
}
"""Rules that a minority of updates that are not finite make so, and why."""

BY_SCALED = BY_NAN | {
    "foundationfl": "copies fakes: those on both sides as printed, an extreme by the lowest score",
}
"""Rules that fakes with updates a million times too long move far, and why."""


def all_but(exceptions, as_they_come=False):
    """Return the cases whose rule is no exception; ``as_they_come``: variants never are one."""
    return [
        (name, hyperparameters)
        for name, hyperparameters in CASES
        if name not in exceptions or (as_they_come and hyperparameters)
    ]


@pytest.fixture(params=CASES, ids=str)
def rule(request):
    """Build a rule that is told all that any rule may ask for."""
    return fully_told(*request.param)


def fully_told(name, hyperparameters):
    rule = rules.build(name, **hyperparameters)

    def called(updates, samples, context=None):
        if context is None:
            finite = updates[np.isfinite(updates).all(axis=1)]
            typical = finite[len(finite) // 2] if len(finite) else np.zeros(updates.shape[1])
            context = told(updates, typical)
        result = rule(updates, samples, context)
        return result[0] if isinstance(result, tuple) else result  # beside what it keeps

    return called


@pytest.fixture(scope="module")
def many():
    """Give 64 MB of updates and their context."""
    updates = random_updates(400, 40_000)
    return updates, told(updates, updates[0])


# Golden numbers


def test_mean_by_hand():
    """The plain mean ignores the samples: (1 + 2 + 6) / 3 = 3, (0 + 3 - 9) / 3 = -2."""
    result = build("mean")(matrix([1, 0], [2, 3], [6, -9]), np.array([1, 1, 98]))
    np.testing.assert_array_equal(result, [3, -2])


def test_weighted_mean_by_hand():
    """FedAvg weighs by samples: (1*1 + 3*5) / 4 = 4, (1*8 + 3*0) / 4 = 2."""
    result = build("mean", weighted=True)(matrix([1, 8], [5, 0]), np.array([1, 3]))
    np.testing.assert_array_equal(result, [4, 2])


def test_median_by_hand():
    """Of three values the median is the middle one, of four the mean of the middle two."""
    median = build("median")
    three = matrix([1, 5], [9, 4], [2, -7])
    np.testing.assert_array_equal(median(three, ones(3)), [2, 4])
    four = matrix([1, 5], [9, 4], [2, -7], [4, 0])  # (2 + 4) / 2, (0 + 4) / 2
    np.testing.assert_array_equal(median(four, ones(4)), [3, 2])


def test_trimmed_mean_by_hand():
    """Of 0, 1, 2, 6, 100 with one dropped at each end, 1 + 2 + 6 = 9 are left: the mean is 3."""
    updates = matrix([100], [1], [0], [6], [2])
    for hyperparameters in ({"count": 1}, {"share": 0.2}, {}):
        result = build("trimmed_mean", **hyperparameters)(updates, ones(5))
        np.testing.assert_array_equal(result, [3])


# What every rule promises


def test_rules_keep_their_contract(rule):
    """The result is (d,) float32, the same each time, and the input is not written."""
    updates, samples = random_updates(11, 7), np.arange(1, 12)
    updates.setflags(write=False)
    samples.setflags(write=False)
    result = rule(updates, samples)
    assert result.shape == (7,)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, rule(updates, samples))


def test_rules_are_blind_to_order(rule):
    """Who comes first does not matter, beyond the rounding of a sum."""
    updates, samples = random_updates(12, 50), np.arange(1, 13)
    context = told(updates, updates[3])._replace(update_sums=random_updates(12, 50, seed=2))
    order = np.random.default_rng(1).permutation(12)
    shuffled = rule(
        updates[order], samples[order], context._replace(update_sums=context.update_sums[order])
    )
    np.testing.assert_allclose(shuffled, rule(updates, samples, context), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n", [1, 2, 7, 10])
@pytest.mark.parametrize("case", all_but(UNEQUAL, as_they_come=True), ids=str)
def test_equal_updates_give_that_update(case, n):
    """Where all agree the rule agrees, at both ends of float32 and with one update alone."""
    row = np.array([0, 1, -0.1, HUGE, -HUGE, TINY, 1 / 3], dtype=np.float32)
    result = fully_told(*case)(np.tile(row, (n, 1)), np.arange(1, n + 1))
    np.testing.assert_array_equal(result, row)


@pytest.mark.parametrize("n", range(1, 10))
def test_rules_work_for_few_updates(rule, n):
    """A number of Byzantine updates that is only a share of few is lowered, never an error."""
    assert np.isfinite(rule(random_updates(n, 6), ones(n))).all()


def test_updates_of_zero_give_zero(rule):
    """Agents who have nothing to say move nothing, and divide nothing by zero."""
    np.testing.assert_array_equal(rule(np.zeros((6, 4), dtype=np.float32), ones(6)), np.zeros(4))


@pytest.mark.parametrize("finite", [0, 1])
def test_rules_survive_what_is_not_finite(rule, finite):
    """Updates of inf and NaN give some vector, without an error or a warning."""
    bad = np.array([[np.inf], [-np.inf], [np.nan], [np.inf]], dtype=np.float32)
    bad[:finite] = 1
    result = rule(np.tile(bad, (1, 5)), ones(4))
    assert result.shape == (5,)
    assert result.dtype == np.float32


@pytest.mark.parametrize("case", all_but(BY_NAN), ids=str)
def test_a_minority_cannot_make_the_result_infinite(case):
    """Two of twelve updates with inf or NaN, in one coordinate or in all, leave it finite."""
    updates = honest_updates(12, 20)
    updates[4], updates[9, 3] = -np.inf, np.nan
    assert np.isfinite(fully_told(*case)(updates, ones(12))).all()


@pytest.mark.parametrize("scale", [1e6, HUGE])
@pytest.mark.parametrize("case", all_but(BY_SCALED), ids=str)
def test_scaled_fakes_do_not_move_the_result_far(case, scale):
    """With a fifth of MPAF's fakes it stays nearer to the honest mean than some honest update."""
    honest = honest_updates(40, 200)
    direction = np.random.default_rng(1).uniform(-1, 1, 200)
    fakes = np.tile((scale * direction).astype(np.float32), (10, 1))
    updates, mean = np.concatenate([fakes, honest]), honest.mean(axis=0)
    result = rules.build(case[0], **case[1])(updates, ones(50), told(updates, honest[0]))
    assert np.linalg.norm(result - mean) < np.linalg.norm(honest - mean, axis=1).max()


def test_rules_need_little_memory(rule, many):
    """A rule does not copy its input: 64 MB of updates need at most 20 MB more."""
    (updates, context), samples = many, ones(400)
    rule(updates[:, :10], samples, told(updates[:, :10], updates[0, :10]))  # loads what it needs
    tracemalloc.start()
    rule(updates, samples, context)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


# Against other libraries


@pytest.mark.parametrize("n", [1, 2, 9, 1000])
def test_median_is_numpys(n):
    """On random updates, wider than one block, the median is NumPy's."""
    updates = random_updates(n, 2500, seed=n)
    result = build("median")(updates, ones(n))
    np.testing.assert_allclose(result, np.median(updates, axis=0), rtol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.4])
def test_trimmed_mean_is_scipys(share):
    """On random updates, wider than one block, the trimmed mean is SciPy's."""
    updates = random_updates(1000, 2500)
    result = build("trimmed_mean", share=share)(updates, ones(1000))
    expected = stats.trim_mean(updates.astype(np.float64), share, axis=0)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-7)


# Numbers at the edge


@pytest.mark.parametrize(
    ("n", "share", "count"),
    [
        (1000, 0.2, 200),
        (100, 0.07, 7),
        (100, 0.29, 29),
        (10, 0.3, 3),
        (8, 0.2, 2),
        (9, 0.2, 2),
        (4, 0.2, 1),
        (1001, 0.2, 201),
        (5, 0.0, 0),
        (2, 0.49, 0),
        (4, 0.49, 1),
        (7, 0.49, 3),
    ],
)
def test_a_share_rounds_up(n, share, count):
    """In spite of binary fractions (.07 * 100 > 7), and at most to (n - 1) / 2, to leave a value.

    Of 1, 2, 4, 8 … with k dropped at each end the rest is averaged.
    """
    values = 2.0 ** np.arange(min(n, 120))
    updates = np.sort(np.resize(values, n)).astype(np.float32)
    result = build("trimmed_mean", share=share)(updates[:, np.newaxis], ones(n))
    np.testing.assert_allclose(result, updates[count : n - count].mean(dtype=np.float64), rtol=1e-6)


SHARED = ["trimmed_mean", "multi_krum", "krum", "bulyan", "dnc", "foundationfl"]
"""Rules that go by a share."""


@pytest.mark.parametrize("name", ["trimmed_mean", "multi_krum", "dnc"])
@pytest.mark.parametrize("n", [8, 9, 13, 14, 18, 19, 23, 28, 48, 98])
def test_a_share_means_as_many_as_a_fleet_has_of_it(name, n):
    """With a fifth on both sides, eight agents are two attackers: what they send leaves 0 at 0."""
    attackers = partition_spec_of(
        load(overrides={"agents.n": n, "agents.malicious": 0.2})
    ).malicious_agents
    updates = np.zeros((n, 1), dtype=np.float32)
    updates[sorted(attackers)] = 1e6
    assert len(attackers) == round(n / 5)
    np.testing.assert_array_equal(build(name, share=0.2)(updates, ones(n)), [0])


@pytest.mark.parametrize("name", SHARED)
def test_a_share_is_never_too_many(name):
    """Nearly half of a few is lowered to what the rule can bear; where all agree, it agrees."""
    rule = build(name, share=0.49)
    for n in range(1, 12):
        updates = np.full((n, 2), 3, dtype=np.float32)
        np.testing.assert_array_equal(rule(updates, ones(n)), [3, 3])


def test_the_middle_of_huge_values_does_not_overflow():
    """Two middle values whose sum exceeds float32 still have a mean."""
    updates = np.full((4, 1), HUGE, dtype=np.float32)
    np.testing.assert_array_equal(build("median")(updates, ones(4)), [HUGE])
    np.testing.assert_array_equal(build("mean")(updates, ones(4)), [HUGE])


@settings(deadline=None)
@given(data=st.data(), n=st.integers(1, 9))
def test_a_minority_cannot_move_the_median_out_of_the_honest_range(data, n):
    """With fewer than half corrupt, inf and NaN included, the median stays among the honest."""
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    anything = st.floats(width=32)
    corrupt = data.draw(st.integers(0, (n - 1) // 2))
    honest = data.draw(arrays(np.float32, (n - corrupt, 3), elements=finite))
    evil = data.draw(arrays(np.float32, (corrupt, 3), elements=anything))
    result = build("median")(np.concatenate([evil, honest]), ones(n))
    assert (honest.min(axis=0) <= result).all()
    assert (result <= honest.max(axis=0)).all()


def test_half_of_nan_does_move_the_median():
    """The bound is sharp: with half of the updates NaN the median may be NaN."""
    updates = matrix([1], [np.nan])
    assert np.isnan(build("median")(updates, ones(2))).all()


def test_trimming_drops_as_many_bad_updates_as_it_trims():
    """Up to k updates of NaN or inf leave a trimmed mean within the honest range."""
    honest = matrix([1], [2], [3])
    trimmed = build("trimmed_mean", count=2)
    for bad in ([np.nan, np.nan], [np.inf, -np.inf], [-np.inf, np.nan]):
        result = trimmed(np.concatenate([honest, matrix(bad).T]), ones(5))
        assert 1 <= result[0] <= 3


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_scaled_fakes_move_robust_rules_no_further(name):
    """MPAF beyond the honest values counts by its sign only: λ from 1e3 to 1e6 is all one."""
    rng = np.random.default_rng(2)
    honest = rng.uniform(-1, 1, (100, 30)).astype(np.float32)
    direction = rng.choice([-1.0, 1.0], 30) * rng.uniform(0.1, 1, 30)
    rule = build(name)
    results = [
        rule(np.concatenate([honest, np.tile(scale * direction, (10, 1))]).astype("f4"), ones(110))
        for scale in (1e3, 1e4, 1e5, 1e6)
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_the_mean_follows_scaled_fakes():
    """The plain mean does not resist: its fakes pull it by their share times λ."""
    updates = np.concatenate([np.zeros((9, 1)), [[1e6]]]).astype(np.float32)
    np.testing.assert_allclose(build("mean")(updates, ones(10)), [1e5])


# Mistakes


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("medain", {}, r"unknown rule: 'medain'; did you mean 'median'\? valid: bulyan, "),
        ("zzz", {}, r"unknown rule: 'zzz'; valid: bulyan"),
        ("trimmed_mean", {"shore": 0.1}, r"did you mean 'share'\? valid: count, share, clip"),
        ("median", {"clp": 1.0}, r"rule 'median': 'clp'; did you mean 'clip'\?"),
        ("trimmed_mean", {"share": 0.1, "count": 3}, "not by both"),
        ("trimmed_mean", {"share": 0.5}, "share"),
        ("trimmed_mean", {"share": -0.1}, "share"),
        ("trimmed_mean", {"count": -1}, "negative"),
        ("mean", {"clip": 0.0}, "positive bound"),
        ("mean", {"clip": float("nan")}, "positive bound"),
    ],
)
def test_mistakes_in_settings_are_explained(name, hyperparameters, message):
    """A name or value that cannot be meant is an error that says what would be right."""
    with pytest.raises(ValueError, match=message):
        build(name, **hyperparameters)


def test_trimming_all_is_an_error():
    """Two at each end of four leave nothing; of five they leave the median."""
    rule = build("trimmed_mean", count=2)
    with pytest.raises(ValueError, match="trimming 2 at each end leaves nothing of 4 updates"):
        rule(random_updates(4, 3), ones(4))
    np.testing.assert_array_equal(rule(matrix([1], [2], [3], [4], [9]), ones(5)), [3])


def test_weights_of_nothing_are_an_error():
    """Updates trained on no samples at all have no weighted mean."""
    with pytest.raises(ValueError, match="add up to 0"):
        build("mean", weighted=True)(random_updates(2, 3), np.zeros(2, dtype=np.int64))
