"""Differential privacy: the noisy mean by hand, what it costs, and settings that break it."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.optimize import brentq
from support.noise import LARGEST, drawn, largest, silent

from fedjury.aggregator.noisy import noisy_mean_of
from fedjury.config.privacy_sections import expected_of
from fedjury.config.sections import Privacy
from fedjury.config.settings import SettingsError, load
from fedjury.privacy import accounting
from fedjury.privacy.__main__ import main
from fedjury.privacy.noise import BLOCK, normal
from fedjury.privacy.noisy_mean import NoisyMean, clipped_sum
from fedjury.privacy.releases import after, number

PRIVATE = {
    "privacy.noise": 1.0,
    "aggregation.rule": "mean",
    "detection.detectors": [],
}
"""The least that differential privacy takes."""


def rows(*values):
    return np.array(values, np.float32)


# The noisy mean


def test_the_sum_by_hand():
    """(3, 4) is clipped from norm 5 to norm 1, (.3, .4) is left, and what is no number counts 0."""
    updates = rows((3, 4), (0.3, 0.4), (np.nan, 1), (np.inf, 0), (0, 0))
    np.testing.assert_allclose(clipped_sum(updates, 1.0), (0.9, 1.2), rtol=1e-7)


def test_the_largest_floats_are_clipped():
    """Squares of these are beyond float32."""
    largest = np.finfo(np.float32).max
    np.testing.assert_allclose(clipped_sum(rows((-largest, 0)), 2.0), (-2, 0))


def test_many_updates_are_added_up_in_blocks(monkeypatch):
    """Two rows at a time or all at once: 7 updates of norm 5, each clipped to (.6, .8)."""
    monkeypatch.setattr("fedjury.privacy.noisy_mean.BLOCK", 4)
    np.testing.assert_allclose(clipped_sum(np.tile(rows((3, 4)), (7, 1)), 1.0), (4.2, 5.6))


def test_it_is_divided_by_the_expected_number():
    """Two updates came of four: (.9, 1.2) / 4, and not / 2."""
    mean = NoisyMean(Privacy(noise=3.0, clip=1.0), 4, silent)
    found = mean.of(rows((3, 4), (0.3, 0.4)))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (0.225, 0.3), rtol=1e-6)


def test_noise_by_hand():
    """The largest that is drawn, 8.57, times noise 2 and clip .5, over 4: 2.14 in each place."""
    mean = NoisyMean(Privacy(noise=2.0, clip=0.5), 4, largest)
    np.testing.assert_allclose(mean.of(rows((0, 0, 0))), [LARGEST / 4] * 3, rtol=1e-6)
    assert math.isclose(LARGEST, 8.5717, rel_tol=1e-4)


@given(
    st.data(),
    st.integers(0, 6),
    st.integers(1, 5),
    st.floats(1e-3, 1e3),
)
def test_one_agent_more_or_less_moves_the_sum_by_clip_at_most(data, others, size, clip):
    """Whatever it sends, and whatever all others sent."""
    anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
    updates = data.draw(arrays.arrays(np.float32, (others + 1, size), elements=anything))
    place = data.draw(st.integers(0, others))
    with_it = clipped_sum(updates, clip)
    without = clipped_sum(np.delete(updates, place, axis=0), clip)
    moved = np.linalg.norm(with_it - without)
    assert moved <= clip * (1 + 1e-9 * (others + 1))


def test_noise_is_normal():
    """40,000 numbers from a fixed source: mean 0, variance 1, and the normal distribution."""
    found = normal(40_000, drawn(1))
    assert abs(found.mean()) < 4 / 200
    assert abs(found.var() - 1) < 4 * math.sqrt(2 / 40_000)
    assert stats.kstest(found, "norm").pvalue > 0.001
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 4 / 200


@pytest.mark.parametrize("count", [0, 1, 3, BLOCK, BLOCK + 1])
def test_any_number_can_be_drawn(count):
    """One, an odd number, and more than a block; 32 bytes are taken for each."""
    asked = []

    def source(size):
        asked.append(size)
        return os.urandom(size)

    assert normal(count, source).shape == (count,)
    assert sum(asked) == 32 * count


def test_noise_differs_whenever_it_is_asked_for():
    """It comes from the system's generator, from no seed."""
    mean = NoisyMean(Privacy(noise=1.0), 1)
    assert not np.array_equal(mean.of(rows((0, 0))), mean.of(rows((0, 0))))


# What it costs


def test_releases_are_counted_by_their_noise():
    """Twice with 1 and once with 2, then with 1 again."""
    counted = ()
    for noise in (1.0, 1.0, 2.0, 1.0):
        counted = after(counted, noise)
    assert counted == ((1.0, 2), (2.0, 1), (1.0, 1))
    assert number(counted) == 4


def test_epsilon_is_the_library_s():
    """Of twenty rounds with noise 5 and ten with 3, each one Gaussian mechanism for all agents."""
    accountant = rdp.RdpAccountant()
    for noise in [5.0] * 20 + [3.0] * 10:
        accountant.compose(dp_accounting.GaussianDpEvent(noise))
    found = accounting.epsilon(((5.0, 20), (3.0, 10)), 1e-5)
    assert found == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-12)


def exact(noise, count, delta):
    """Return the least epsilon of so many Gaussian mechanisms (Balle and Wang, ICML 2018, eq. 6).

    They are one with mu = √count / noise.
    """
    mu, cdf = math.sqrt(count) / noise, stats.norm.cdf
    return brentq(
        lambda e: cdf(mu / 2 - e / mu) - math.exp(e) * cdf(-mu / 2 - e / mu) - delta, 1e-9, 200
    )


@pytest.mark.parametrize(("noise", "count"), [(1.0, 1), (5.0, 20), (5.0, 200), (20.0, 200)])
def test_epsilon_is_no_less_than_the_exact_one(noise, count):
    """And no more than 15 % above it."""
    found, least = accounting.epsilon(((noise, count),), 1e-5), exact(noise, count, 1e-5)
    assert least < found < 1.15 * least


def test_without_noise_nothing_bounds_it():
    """And nothing told is nothing spent."""
    assert accounting.epsilon(((1.0, 3), (0.0, 1)), 1e-5) == math.inf
    assert accounting.epsilon((), 1e-5) == 0


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_noise_for_an_epsilon(epsilon):
    """Sixty rounds with it spend that much, and with a hundredth less noise more."""
    noise = accounting.noise_for(epsilon, 1e-5, 60)
    assert 0.999 * epsilon < accounting.epsilon(((noise, 60),), 1e-5) <= epsilon
    assert accounting.epsilon(((0.99 * noise, 60),), 1e-5) > epsilon


@pytest.mark.parametrize(
    "wrong", [(0, 1e-5, 1), (1, 0, 1), (1, 1, 1), (1, 1e-5, 0), (math.inf, 1e-5, 1)]
)
@pytest.mark.parametrize("asked", [accounting.noise_for, accounting.planned])
def test_what_cannot_be_planned_is_refused(asked, wrong):
    """An epsilon of 0 takes endless noise, and a noise of 0 spends without bound."""
    with pytest.raises(ValueError, match="must be above 0, delta between 0 and 1"):
        asked(*wrong)


def test_noise_is_planned_on_the_command_line(capsys):
    """Both ways round, for people and as JSON."""
    assert main(["--rounds", "60", "--epsilon", "2"], "fedjury privacy") == 0
    said = "privacy.noise = 16.647 spends epsilon 2 (delta 1e-05) in 60 rounds\n"
    assert capsys.readouterr().out == said
    main(["--rounds", "1", "--noise", "1", "--delta", "0.00001", "--json"], "fedjury privacy")
    found = json.loads(capsys.readouterr().out)
    assert found == pytest.approx({"noise": 1, "epsilon": 4.728507, "delta": 1e-5, "rounds": 1})


def test_a_missing_library_is_named(monkeypatch):
    """At the start, and not once a round is over."""
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ValueError, match=r"pip install 'fedjury\[privacy\]'"):
        noisy_mean_of(load(overrides=PRIVATE))
    assert noisy_mean_of(load()) is None


# Settings under which the promise does not hold


def test_what_it_takes():
    """The sum is divided by the number of agents that are selected if all come."""
    settings = load(overrides=PRIVATE | {"agents.n": 200, "sampling.client_fraction": 0.5})
    assert noisy_mean_of(settings) == NoisyMean(settings.privacy, 100)
    for more, expected in (
        ({"sampling.most": 30}, 30),
        ({"collect.agents": 50}, 25),
        ({"privacy.expected": 7}, 7),
    ):
        given = PRIVATE | {"agents.n": 200, "sampling.client_fraction": 0.5} | more
        assert expected_of(load(overrides=given)) == expected


@pytest.mark.parametrize("rule", ["mean", "fedavgm", "fedadam", "fedyogi"])
def test_what_comes_after_the_noisy_mean_is_free(rule):
    """Momentum and adaptive steps see nothing but the noisy mean."""
    assert load(overrides=PRIVATE | {"aggregation.rule": rule}).privacy.noise == 1.0


BROKEN = {
    "clip": ({"privacy.clip": 0.0}, "privacy.clip = 0.0 must be above 0"),
    "delta": ({"privacy.delta": 0.01}, "privacy.delta = 0.01 must be at most 1 / 1,000"),
    "rule": ({"aggregation.rule": "median"}, "aggregation.rule = 'median' must be mean"),
    "clipped mean": ({"aggregation.rule": "clipped_mean"}, "nothing bounds what one update does"),
    "base": (
        {"aggregation.rule": "fedavgm", "aggregation.options": {"base": "median"}},
        "base of the rule = 'median' must be mean",
    ),
    "weighted": ({"aggregation.options": {"weighted": True}}, "agents choose the weight"),
    "clip of the rule": ({"aggregation.clip": 3.0}, "aggregation.clip = 3.0 must be 0"),
    "the same, as an option": ({"aggregation.options": {"clip": 3.0}}, "aggregation.clip = 3.0"),
    "steps before": (
        {"aggregation.pre_aggregation": {"bucketing": 2}},
        r"aggregation.pre_aggregation = .* must be \{\}",
    ),
    "detectors": ({"detection.detectors": ["length"]}, r"detection.detectors = .* must be \[\]"),
    "votes on groups": (
        {"validation.on": "groups", "groups.size": 10},
        "validation.on = 'groups' must be candidate with privacy.noise, as means of groups",
    ),
    "groups": ({"groups.size": 10}, "groups.size = 10 must be 1 with privacy.noise"),
    "strategy": ({"collect.strategy": "acme:buffered"}, "collect.strategy = .* synchronous"),
}


@pytest.mark.parametrize("changes", BROKEN)
def test_what_breaks_the_promise_is_refused(changes):
    """With the reason; without noise all of it is allowed."""
    settings, why = BROKEN[changes]
    with pytest.raises(SettingsError, match=why):
        load(overrides=PRIVATE | settings)
    load(overrides=PRIVATE | settings | {"privacy.noise": 0.0})


def test_the_defaults_say_what_has_to_be_changed():
    """Who asks for noise alone is told of the rule first, then of detectors."""
    given = {"privacy.noise": 1.0}
    for key, value in itertools.islice(PRIVATE.items(), 1, None):
        with pytest.raises(SettingsError, match=key):
            load(overrides=given)
        given |= {key: value}
    load(overrides=given)
