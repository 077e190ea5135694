"""Rules that need sums alone: by hand, against the rules themselves, and whoever adds what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedjury.rules import Context, build, cut
from fedjury.rules.sums import (
    CLIPPED,
    Asked,
    Known,
    Total,
    added,
    fineness,
    sum_rule,
    unit,
)

TWO = np.array([[3, 4], [0, 1]], np.float32)
"""Two updates, of the norms 5 and 1."""
ALL_SUMS = {
    "mean": (2.0, {}),
    "mean, weighted": (2.0, {"weighted": True}),
    "clipped_mean": (0.0, {}),
    "clipped_mean, clipped before": (3.0, {"factor": 0.5}),
    "fltrust": (0.0, {}),
    "centered_clipping": (0.0, {"tau": 2.0}),
}


def made(name, updates, samples, context, cells, partitions=1):
    """Return what a rule makes of sums of these cells, each a list of rows."""
    clip, options = ALL_SUMS[name]
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    known = Known(samples, norms, updates.shape[1], context)
    rule = sum_rule(name.partition(",")[0], clip, {}, options, 1000)
    asked, step = rule.first(known), 0
    while isinstance(asked, Asked):
        total = Total(np.zeros(updates.shape[1], np.int64), 0)
        for rows in cells:
            part = cut(updates[rows], partitions)
            total = total.plus(added(part, samples[rows], norms[rows], asked))
        step += 1
        asked = rule.then(known, asked, step, total)
    return asked


def drawn(n=23, d=101, seed=7):
    """Return updates of very different lengths, what they say of their samples, and a context."""
    rng = np.random.default_rng(seed)
    updates = rng.standard_normal((n, d)) * np.exp(rng.standard_normal((n, 1)))
    updates = updates.astype(np.float32)
    context = Context(previous=updates[0] / 3, server_update=updates[:5].mean(axis=0))
    return updates, rng.integers(1, 2000, n), context


def test_a_sum_by_hand():
    """Clipped to 1, (3, 4) is (.6, .8); beside it stands (0, 1): (.6, 1.8), each in 32 bits."""
    asked = Asked(CLIPPED, 1.0, 32)
    total = added(cut(TWO, 1), np.array([1, 1]), np.array([5.0, 1.0]), asked)
    assert unit(asked) == 2.0**-31
    assert total.values.tolist() == [round(0.6 * 2**31), round(0.8 * 2**31) + 2**31]
    assert total.weight == 2


def test_weights_are_samples_up_to_the_largest():
    """With 3 samples and 10, of which 4 count, it is 3 (.6, .8) + 4 (0, 1)."""
    asked = Asked(CLIPPED, 1.0, 32, largest=4)
    total = added(cut(TWO, 1), np.array([3, 10]), np.array([5.0, 1.0]), asked)
    assert total.weight == 7
    np.testing.assert_allclose(total.values * unit(asked), [1.8, 6.4], atol=1e-9)


@pytest.mark.parametrize("name", ALL_SUMS)
def test_it_is_the_rule_itself_up_to_float32(name):
    """What sums give differs from the rule's own update by its last digits."""
    updates, samples, context = drawn()
    clip, options = ALL_SUMS[name]
    rule = build(name.partition(",")[0], clip or None, {}, **options)
    wanted = rule(cut(updates, 1), np.minimum(samples, 1000), context)
    found = made(name, updates, samples, context, [np.arange(len(updates))])
    np.testing.assert_allclose(found, wanted, atol=4e-7 * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("name", ALL_SUMS)
@given(order=st.permutations(range(23)), ends=st.sets(st.integers(1, 22)), cuts=st.integers(0, 3))
def test_who_adds_what_changes_no_bit(name, order, ends, cuts):
    """Any updates in any cells, in any order and cut into any columns, give one model."""
    updates, samples, context = drawn()
    cells = np.split(np.array(order), sorted(ends))
    whole = made(name, updates, samples, context, [np.arange(23)])
    assert made(name, updates, samples, context, cells, 2**cuts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", ALL_SUMS)
def test_an_update_that_is_not_finite_says_nothing(name):
    """With one more that is not, the rules' results stay finite, and are those of the rules."""
    updates, samples, context = drawn()
    updates[4, 3], updates[9] = np.inf, np.nan
    clip, options = ALL_SUMS[name]
    context = context._replace(server_update=updates[0])
    rule = build(name.partition(",")[0], clip or None, {}, **options)
    with np.errstate(all="ignore"):
        wanted = rule(cut(updates, 1), np.minimum(samples, 1000), context)
        found = made(name, updates, samples, context, [np.arange(10), np.arange(10, 23)])
    np.testing.assert_allclose(found, wanted, atol=4e-7 * np.abs(wanted).max(), rtol=0)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
    st.integers(0, 2**62),
)
def test_sums_survive_being_packed(values, weight):
    """All numbers travel in as many bytes as the longest needs."""
    total = Total(np.array(values, np.int64), weight)
    width, data = total.packed()
    assert len(data) == width * (len(values) + 1)
    back = Total.unpacked(width, data, len(values))
    assert back.values.tolist() == values
    assert back.weight == weight


def test_what_was_packed_for_another_length_is_refused():
    """Three numbers are no sum of three parameters, which has its weight besides."""
    width, data = Total(np.zeros(2, np.int64), 1).packed()
    with pytest.raises(ValueError, match="3 bytes are not 4 numbers of 1"):
        Total.unpacked(width, data, 3)


def test_a_sum_has_room_for_all_its_terms():
    """A million updates of 1,000 samples leave 32 bits; a billion of 1,000 leave too few."""
    assert fineness(1_000_000, 1000) == 32
    assert fineness(100_000_000, 100) == 62 - (10**10).bit_length()
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        fineness(1_000_000_000, 1000)


@pytest.mark.parametrize(
    ("rule", "clip", "steps", "why"),
    [
        ("mean", 0.0, {}, "needs aggregation.clip"),
        ("median", 1.0, {}, "'median' needs the updates"),
        ("clipped_mean", 0.0, {"nnm": 2}, "'nnm' needs the updates"),
        ("centered_clipping", 1.0, {}, "'centered_clipping' needs the updates"),
    ],
)
def test_what_is_no_sum_is_refused(rule, clip, steps, why):
    """The sentence says which rules are sums."""
    with pytest.raises(ValueError, match=why):
        sum_rule(rule, clip, steps, {}, 1000)
