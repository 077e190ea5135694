"""Fronts: what stands before a rule and changes what it is given."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.updates import HUGE, NOTHING, build, honest_updates, matrix, ones, random_updates, told

from fedjury import rules
from fedjury.rules import Context
from fedjury.rules.clip import clip_rows
from fedjury.rules.partitions import cut


@pytest.fixture(params=rules.PRE_AGGREGATIONS)
def front(request):
    """Build a front with 2, which is a norm to one and a number of updates to another."""
    return rules.PRE_AGGREGATIONS[request.param](2)


# What every front promises


def test_fronts_keep_their_contract(front):
    """Out come updates and as many samples in all, the same each time; the input is not written."""
    updates, samples = random_updates(11, 7), np.arange(1, 12)
    updates.setflags(write=False)
    samples.setflags(write=False)
    result, counts = front(updates, samples, NOTHING)
    assert result.dtype == np.float32
    assert result.shape == (len(counts), 7)
    assert counts.sum() == samples.sum()
    np.testing.assert_array_equal(result, front(updates, samples, NOTHING)[0])


def test_fronts_survive_what_is_not_finite(front):
    """Updates of inf and NaN, some or all of them, are no error and no warning."""
    updates = honest_updates(6, 5)
    for bad in ([1], range(6)):
        updates[bad] = np.nan
        updates[bad, 0] = np.inf
        result, counts = front(updates, ones(6), NOTHING)
        assert result.shape == (len(counts), 5)


def test_fronts_leave_the_honest_finite(front):
    """What is not finite spoils no other update: at most it stays one that is not."""
    updates = honest_updates(9, 5)
    updates[2, 1], updates[5, 3] = np.nan, -np.inf
    result, _ = front(updates, ones(9), NOTHING)
    assert (~np.isfinite(result).all(axis=1)).sum() <= 2
    assert np.isfinite(result).all(axis=1).any()


def test_fronts_cope_with_the_ends_of_float32(front):
    """The mean of numbers at the end of float32 is none beyond it."""
    updates = np.full((6, 3), HUGE, dtype=np.float32)
    updates[::2] *= -1
    assert np.isfinite(front(updates, ones(6), NOTHING)[0]).all()


def test_fronts_need_one_matrix(front):
    """A front makes its new matrix and at most 20 MB beside it."""
    updates = random_updates(400, 40_000)
    tracemalloc.start()
    front(updates, ones(400), NOTHING)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < updates.nbytes + 20e6


@pytest.mark.parametrize("name", rules.RULES)
@pytest.mark.parametrize("before", rules.PRE_AGGREGATIONS)
def test_fronts_stand_before_any_rule(name, before):
    """All combinations work, except bucketing before a rule that must know the senders."""
    updates = honest_updates(12, 8)
    if rules.RULES.facts(name).needs == {rules.Need.UPDATE_SUMS} and before == "bucketing":
        with pytest.raises(ValueError, match="which bucketing hides"):
            build(name, before={before: 2})
        return
    result = build(name, before={before: 2})(updates, ones(12), told(updates, updates[0]))
    made = result[0] if isinstance(result, tuple) else result
    assert np.isfinite(made).all()


# Clipping


def test_clipping_by_hand():
    """Clipped to 2.5, (3, 4) of norm 5 is halved and (0, 2) stays: the mean is (0.75, 2)."""
    updates = matrix([3, 4], [0, 2])
    result = build("mean", clip=2.5)(updates, ones(2))
    np.testing.assert_array_equal(result, [0.75, 2])
    np.testing.assert_array_equal(updates, matrix([3, 4], [0, 2]))


def test_clipping_copes_with_rows_beyond_float32():
    """A norm whose square overflows float32 is clipped; a row with inf or NaN becomes zero."""
    updates = matrix([HUGE, 0], [HUGE, HUGE], [np.inf, 1], [1, np.nan], [1, 0])
    half = np.sqrt(0.5)
    expected = [[1, 0], [half, half], [0, 0], [0, 0], [1, 0]]
    np.testing.assert_allclose(clip_rows(cut(updates, 1), 1.0).whole(), expected, rtol=1e-6)


@settings(deadline=None)
@given(
    updates=arrays(np.float32, (3, 4), elements=st.floats(width=32)),
    bound=st.floats(1e-6, 1e6),
)
def test_clipping_bounds_every_norm(updates, bound):
    """No row comes out longer than the bound, and one within it comes out as it was."""
    result = clip_rows(cut(updates, 1), bound).whole()
    norms = np.linalg.norm(result.astype(np.float64), axis=1)
    assert (norms <= bound * (1 + 1e-6)).all()
    finite = np.isfinite(updates).all(axis=1)
    before = np.linalg.norm(np.where(finite[:, None], updates, 0).astype(np.float64), axis=1)
    short = finite & (before < bound * (1 - 1e-12))
    np.testing.assert_array_equal(result[short], updates[short])


def test_clipping_in_many_blocks(monkeypatch):
    """The result does not depend on how many rows are clipped at a time."""
    updates = random_updates(10, 8)
    whole = clip_rows(cut(updates, 1), 1.0).whole()
    monkeypatch.setattr("fedjury.rules.clip.BLOCK", 24)
    np.testing.assert_array_equal(clip_rows(cut(updates, 1), 1.0).whole(), whole)


# Bucketing


def test_bucketing_by_hand():
    """Five updates in buckets of two are two means of two and one alone, samples added up."""
    updates, samples = matrix([1], [2], [4], [8], [16]), np.array([1, 10, 100, 1000, 10000])
    context = Context(seed=4, round=2)
    a, b, c, d, e = context.rng().permutation(5)
    means, counts = rules.PRE_AGGREGATIONS["bucketing"](2)(updates, samples, context)
    v = updates[:, 0]
    np.testing.assert_array_equal(means[:, 0], [(v[a] + v[b]) / 2, (v[c] + v[d]) / 2, v[e]])
    np.testing.assert_array_equal(
        counts, [samples[[a, b]].sum(), samples[[c, d]].sum(), samples[e]]
    )


def test_bucketing_is_shuffled_anew_each_round():
    """Who shares a bucket with whom is drawn from the round."""
    updates, front = random_updates(20, 3), rules.PRE_AGGREGATIONS["bucketing"](2)
    first, second = (front(updates, ones(20), Context(round=r))[0] for r in (1, 2))
    assert not np.array_equal(first, second)


def test_bucketing_brings_updates_closer_together():
    """Means of four independent updates vary a quarter as much as the updates do."""
    means, _ = rules.PRE_AGGREGATIONS["bucketing"](4)(random_updates(400, 50), ones(400), NOTHING)
    np.testing.assert_allclose(means.var(), 1 / 4, rtol=0.05)


def test_a_bucket_of_all_is_the_mean():
    """A bucket larger than the round holds everybody."""
    updates = random_updates(7, 5)
    means, _ = rules.PRE_AGGREGATIONS["bucketing"](100)(updates, ones(7), NOTHING)
    np.testing.assert_allclose(means, updates.mean(axis=0)[np.newaxis], rtol=1e-5)


# Nearest-neighbour mixing


def test_mixing_by_hand():
    """Of 0, 1, 3, 10 the three nearest: 4/3 for 0, 1 and 3; for 10 it is (1 + 3 + 10) / 3."""
    result, samples = rules.PRE_AGGREGATIONS["nnm"](1)(
        matrix([0], [1], [3], [10]), np.arange(4), NOTHING
    )
    np.testing.assert_allclose(result[:, 0], [4 / 3, 4 / 3, 4 / 3, 14 / 3], rtol=1e-6)
    np.testing.assert_array_equal(samples, np.arange(4))


def test_mixing_by_definition():
    """On random updates it is what a loop over sorted distances gives."""
    updates = random_updates(30, 40)
    result, _ = rules.PRE_AGGREGATIONS["nnm"](7)(updates, ones(30), NOTHING)
    for i in range(30):
        nearest = np.argsort(np.linalg.norm(updates - updates[i], axis=1))[:23]
        np.testing.assert_allclose(result[i], updates[nearest].mean(axis=0), rtol=1e-4, atol=1e-6)


def test_mixing_keeps_rows_where_they_were():
    """An update that is not finite stays in its row, and is nobody's neighbour."""
    result, _ = rules.PRE_AGGREGATIONS["nnm"](1)(matrix([0], [np.nan], [3], [6]), ones(4), NOTHING)
    np.testing.assert_array_equal(result, matrix([3], [np.nan], [3], [3]))


def test_mixing_makes_the_median_nearly_the_mean():
    """Behind it, the median of updates with different directions no longer loses the minority's."""
    updates = np.eye(20, dtype=np.float32)
    mixed = build("median", before={"nnm": 2})(updates, ones(20))
    assert np.linalg.norm(build("median")(updates, ones(20))) == 0
    np.testing.assert_allclose(mixed.sum(), 1, atol=0.15)


# Mistakes


@pytest.mark.parametrize(
    ("front", "number", "message"),
    [
        ("bucketing", 0, "at least 1, not 0"),
        ("bucketing", 2.5, r"whole number of updates, at least 1, not 2\.5"),
        ("bucketing", float("nan"), "not nan"),
        ("bucketing", float("inf"), "not inf"),
        ("nnm", -1, "not -1"),
        ("nnm", 0.2, r"whole number of Byzantine updates, not 0\.2"),
        ("nnm", float("nan"), "not nan"),
        ("nnm", float("inf"), "not inf"),
        ("clip", -2, "positive bound"),
    ],
)
def test_numbers_that_cannot_be_meant_are_explained(front, number, message):
    """A front says what its number has to be."""
    with pytest.raises(ValueError, match=message):
        build("mean", before={front: number})


def test_mixing_without_honest_updates_is_an_error():
    """Four updates of which four are Byzantine leave nobody to mix with."""
    with pytest.raises(ValueError, match="cannot mix 4 updates of which 4 are Byzantine"):
        build("mean", before={"nnm": 4})(random_updates(4, 2), ones(4))
