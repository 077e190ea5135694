"""Attacks by agents with data: what they send, worked by hand, and what defines them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.federation import one_thread  # noqa: F401 - a fixture
from support.worlds import TASK, start_weights, world

from fedjury import attacks
from fedjury.attacks import RoundContext
from fedjury.attacks.agnostic import DEVIATIONS
from fedjury.attacks.alie import largest_z
from fedjury.attacks.colluding import Strategy, carried_out, moments
from fedjury.learning.shards import sample_order
from fedjury.learning.training import train_alone

pytestmark = pytest.mark.usefixtures("one_thread")

CALLED = RoundContext(3, (1, 4, 6), 5)

PAIR = [[0, 2], [4, 2]]
"""Two updates; mean (2, 2), deviation (2, 0)."""

THREE = [[0, 0], [4, 0], [2, 3]]
"""Three updates with mean (2, 1); squared distances 16, 13 and 13, and 5, 5 and 4 from the mean."""


def plotted(name, updates, n=10, attackers=None, **options):
    """Return what colluders with these honest updates plot to send."""
    updates = np.array(updates, dtype=np.float32)
    m = len(updates) if attackers is None else attackers
    called = RoundContext(1, tuple(range(len(updates))), 0, contributors=n, attackers=m)
    return attacks.build(name, world(), options).plot(updates, called)


# Each by itself


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_sign_flip_by_hand(factor):
    """What an honest member learnt, times -factor."""
    honest = attacks.honest.honest(world())(start_weights(), CALLED)
    sent = attacks.build("sign_flip", world(), {"factor": factor})(start_weights(), CALLED)
    np.testing.assert_array_equal(sent, np.float32(-factor) * honest)
    default = attacks.build("sign_flip", world())(start_weights(), CALLED)
    np.testing.assert_array_equal(default, -honest)


def test_label_flip_trains_on_labels_counted_from_the_other_end():
    """Of ten classes, 0 is called 9, 3 is called 6: torch's own SGD on such labels comes to it."""
    here = world()
    flipped = here.data._replace(y=9 - here.data.y)
    sent = attacks.build("label_flip", here)(start_weights(), CALLED)
    for row, member in enumerate(CALLED.members):
        own = flipped._replace(indices=flipped.indices[row : row + 1])
        order = sample_order(5, 3, (member,), 1, 4)
        alone = train_alone(here.model, start_weights(), own, here.plan, order, TASK)[0]
        np.testing.assert_allclose(sent[row], alone, rtol=1e-3, atol=1e-5)
    honest = attacks.honest.honest(world())(start_weights(), CALLED)
    assert not np.allclose(sent, honest, atol=1e-3)


# Together


def test_moments_by_hand():
    """Of 1, 1 and 4: mean 2, variance (1 + 1 + 4) / 3 = 2."""
    mean, deviation = moments(np.array([[1], [1], [4]], dtype=np.float32))
    np.testing.assert_allclose([mean[0], deviation[0]], [2, math.sqrt(2)], rtol=1e-6)


def test_gaussian_by_hand():
    """Around the mean (2, 2), with three times the deviation (2, 0)."""
    centre, spread = plotted("gaussian", PAIR, strength=3.0)
    np.testing.assert_array_equal(centre, [2, 2])
    np.testing.assert_array_equal(spread, [6, 0])
    np.testing.assert_array_equal(plotted("gaussian", PAIR).spread, [2, 0])


def test_each_draws_its_own_noise():
    """Mean 1 and deviation 3 over many coordinates; another round or agent is another draw."""
    d = 20_000
    scheme = Strategy(np.full(d, 1, np.float32), np.full(d, 3, np.float32))
    one, other = carried_out(scheme, RoundContext(2, (4, 7), 0))
    for sent in (one, other):
        assert abs(sent.mean() - 1) < 4 * 3 / math.sqrt(d)
        assert abs(sent.std() - 3) < 4 * 3 / math.sqrt(2 * d)
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(d)
    np.testing.assert_array_equal(carried_out(scheme, RoundContext(2, (7,), 0))[0], other)
    assert not np.array_equal(carried_out(scheme, RoundContext(3, (7,), 0))[0], other)


def test_without_a_spread_all_send_the_same():
    """It is one array for all, which is packed once."""
    centre = np.ones(3, np.float32)
    assert all(sent is centre for sent in carried_out(Strategy(centre), RoundContext(2, (4, 7), 0)))


def test_alie_by_hand():
    """(2, 2) - 1.5 (2, 0) = (-1, 2), and no spread."""
    centre, spread = plotted("alie", PAIR, z=1.5)
    np.testing.assert_array_equal(centre, [-1, 2])
    assert spread.shape == (0,)


@pytest.mark.parametrize(
    ("n", "m", "share"),
    [(50, 24, 24 / 26), (50, 12, 24 / 38), (20, 4, 9 / 16), (21, 4, 10 / 17), (10, 2, 0.5)],
)
def test_the_z_of_alie(n, m, share):
    """S = floor(n / 2 + 1) - m; 50 and 24 make s = 2 and the quantile 24/26; 20 and 4: 9/16."""
    z = largest_z(n, m)
    assert math.isclose((1 + math.erf(z / math.sqrt(2))) / 2, share, abs_tol=1e-9)
    centre = plotted("alie", PAIR, n=n, attackers=m).centre
    np.testing.assert_allclose(centre, [2 - 2 * z, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "z"), [(10, 6, 3.09), (4, 4, 3.09), (1, 1, 3.09), (2, 1, 0), (10, 1, 0), (100, 1, 0)]
)
def test_the_z_of_alie_stays_a_number(n, m, z):
    """A majority of attackers needs no supporters; one of ten has z = -.14, and is held at 0."""
    assert math.isclose(largest_z(n, m), z, abs_tol=1e-3)


def test_ipm_by_hand():
    """-0.5 (2, 2) = (-1, -1); by default a tenth of the mean, backwards."""
    np.testing.assert_array_equal(plotted("ipm", PAIR, epsilon=0.5).centre, [-1, -1])
    np.testing.assert_allclose(plotted("ipm", PAIR).centre, [-0.2, -0.2], rtol=1e-6)


MIN_MAX = {
    # p = -(2, 0) from (2, 2): to (4, 2) it is 2 + 2 gamma <= 4.
    "std": (PAIR, [0, 2]),
    # p = -(1, 1) from (2, 1): to (2, 3) it is 2 gamma² + 4 gamma + 4 <= 16, gamma = sqrt(7) - 1.
    "sign": (THREE, [3 - math.sqrt(7), 2 - math.sqrt(7)]),
    # p = -(.6, .8) from (3, 4): to (3, 8) gamma² + 6.4 gamma + 16 <= 64, so sqrt(58.24) - 3.2.
    "unit": (
        [[3, 0], [3, 8]],
        [3 - 0.6 * (math.sqrt(58.24) - 3.2), 4 - 0.8 * (math.sqrt(58.24) - 3.2)],
    ),
}


@pytest.mark.parametrize("deviation", MIN_MAX)
def test_min_max_by_hand(deviation):
    """Along each deviation as far as the farthest update is no further than the farthest pair."""
    updates, expected = MIN_MAX[deviation]
    centre = plotted("min_max", updates, deviation=deviation).centre
    np.testing.assert_allclose(centre, expected, rtol=1e-5, atol=1e-6)


MIN_SUM = {
    # 2 (4 + 4 gamma²) <= 16.
    "std": (PAIR, [0, 2]),
    # 5 + 5 + 4 + 3 * 2 gamma² <= 16 + 13: gamma = sqrt(2.5).
    "sign": (THREE, [2 - math.sqrt(2.5), 1 - math.sqrt(2.5)]),
    # 2 (16 + gamma²) <= 64: gamma = 4.
    "unit": ([[3, 0], [3, 8]], [3 - 2.4, 4 - 3.2]),
}


@pytest.mark.parametrize("deviation", MIN_SUM)
def test_min_sum_by_hand(deviation):
    """Along each deviation until all distances together are those of the most distant update."""
    updates, expected = MIN_SUM[deviation]
    centre = plotted("min_sum", updates, deviation=deviation).centre
    np.testing.assert_allclose(centre, expected, rtol=1e-5, atol=1e-6)


def squared(points, updates):
    """Return the squared distances (p, m) of points from updates, vector by vector."""
    return np.array([[np.sum((point - update) ** 2) for update in updates] for point in points])


MEASURES = {
    "min_max": lambda apart: apart.max(),
    "min_sum": lambda apart: apart.sum(axis=1).max(),
}
"""Squared distances of some points from the updates -> what may not exceed that of the updates."""


@pytest.mark.parametrize("name", MEASURES)
@settings(deadline=None, max_examples=60)
@given(
    updates=arrays(
        np.float32,
        st.tuples(st.integers(2, 7), st.integers(1, 9)),
        elements=st.integers(-50, 50).map(lambda i: i / 8),
        unique=True,
    ),
    deviation=st.sampled_from(list(DEVIATIONS)),
)
def test_what_is_sent_is_as_far_as_honest_updates_are_and_no_further(name, updates, deviation):
    """The measure of the attack is that of the updates, found by bisection as in the paper."""
    measure, exact = MEASURES[name], updates.astype(np.float64)
    mean, std = moments(updates)
    p = DEVIATIONS[deviation](mean, std).astype(np.float64)
    most = measure(squared(exact, exact))
    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        fits = measure(squared([mean + middle * p], exact)) <= most * (1 + 1e-12)
        low, high = (middle, high) if fits else (low, middle)
    sent = plotted(name, updates, deviation=deviation).centre
    assert measure(squared([sent.astype(np.float64)], exact)) <= most * (1 + 1e-4)
    if np.linalg.norm(p) > 1e-3:
        np.testing.assert_allclose(sent, mean + low * p, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("deviation", DEVIATIONS)
@pytest.mark.parametrize("updates", [[[1, -2]], [[1, -2]] * 3, [[0, 0]] * 2])
def test_updates_that_are_all_alike_leave_no_room(name, deviation, updates):
    """One update, or several equal ones: nothing else is as near, and that is what is sent."""
    sent = plotted(name, updates, deviation=deviation).centre
    np.testing.assert_allclose(sent, updates[0], atol=1e-6)


def test_distances_are_measured_in_blocks(monkeypatch):
    """Blocks of three coordinates come to the same as all at once."""
    updates = np.random.default_rng(0).normal(0, 1, (5, 20))
    whole = plotted("min_max", updates).centre
    monkeypatch.setattr("fedjury.attacks.agnostic.BLOCK", 3)
    np.testing.assert_allclose(plotted("min_max", updates).centre, whole, rtol=1e-6)
