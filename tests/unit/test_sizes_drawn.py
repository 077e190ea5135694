"""How many samples each agent holds: what the distributions draw."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury.config.sections import Dirichlet, LogNormal, Uniform
from fedjury.learning.sizes import drawn
from fedjury.randomness import Purpose, stream


def held(sizes, holders=1000, available=8000, seed=0):
    return drawn(sizes, holders, available, stream(seed, Purpose.SAMPLE_COUNTS))


def test_a_number_is_the_number_of_each():
    """And 0 is an equal share, rounded down, of at least one sample."""
    assert held(4, 3, 100).tolist() == [4, 4, 4]
    assert held(0, 3, 100).tolist() == [33, 33, 33]
    assert held(0, 3, 2).tolist() == [1, 1, 1]


def test_uniform_sizes_are_all_as_likely():
    """Of 9,000 agents each of three sizes is held by about 3,000 (sd 45)."""
    found, counts = np.unique(held(Uniform(2, 4), 9000), return_counts=True)
    assert found.tolist() == [2, 3, 4]
    np.testing.assert_allclose(counts, 3000, atol=180)


def test_uniform_sizes_without_an_end_have_the_equal_share_as_mean():
    """A share of 8 and 3 at least: up to 13."""
    sizes = held(Uniform(3))
    assert (sizes.min(), sizes.max()) == (3, 13)
    assert sizes.mean() == pytest.approx(8, abs=0.4)  # the mean's deviation is 0.1


@pytest.mark.parametrize("sizes", [LogNormal(4), LogNormal(4, least=2), Dirichlet(4, least=1)])
def test_sizes_have_exactly_the_mean_that_is_asked_for(sizes):
    """However they are drawn: 1,000 agents hold 4,000 samples, each the least number or more."""
    found = held(sizes)
    assert found.sum() == 4000
    assert found.min() == sizes.least
    assert found.dtype == np.int64


@pytest.mark.parametrize("sizes", [LogNormal(), Dirichlet(), Dirichlet(alpha=0.001)])
def test_without_a_mean_all_that_there_is_is_shared_out(sizes):
    """Also where nearly all of it is one agent's."""
    assert held(sizes).sum() == 8000


def test_log_normal_sizes_are_log_normal():
    """Of 4,000 agents with a mean of 1,000 the logarithms have deviation 1, within 1 % (sd)."""
    logs = np.log(held(LogNormal(1000, 1), 4000))
    assert logs.std() == pytest.approx(1, abs=0.04)
    # exp(sigma z) has the mean e^(1/2) and the median 1.
    assert np.exp(np.median(logs)) == pytest.approx(1000 * np.exp(-0.5), rel=0.06)


def test_dirichlet_sizes_vary_as_shares_do():
    """Shares of n agents have variance (n - 1) / (n^2 (n alpha + 1)).

    With alpha 16, sizes of a mean of 1,000 deviate by 1,000 sqrt(3,999 / 64,001), which is 250.
    """
    assert held(Dirichlet(1000, 16), 4000).std() == pytest.approx(250, rel=0.05)


@pytest.mark.parametrize("even", [LogNormal(4, sigma=0), Dirichlet(4, alpha=1e6), Uniform(4, 4)])
def test_sizes_that_hardly_vary_are_equal(even):
    assert held(even, 50).tolist() == [4] * 50


def test_parts_of_a_sample_go_to_who_lacks_most_of_one():
    """Ten samples of three equal agents: 3 1/3 each, and the one left to the first of equals."""
    assert held(LogNormal(10 / 3, sigma=0), 3).tolist() == [4, 3, 3]


@pytest.mark.parametrize("sizes", [Uniform(1, 9), LogNormal(4), Dirichlet(4)])
def test_sizes_depend_on_the_seed_alone(sizes):
    np.testing.assert_array_equal(held(sizes), held(sizes))
    assert not np.array_equal(held(sizes), held(sizes, seed=1))


@pytest.mark.parametrize("sizes", [4, Uniform(1, 9), LogNormal(4), Dirichlet(4)])
def test_where_nobody_holds_data_there_are_no_sizes(sizes):
    """A fleet of fakes."""
    assert held(sizes, 0).shape == (0,)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        (LogNormal(least=9), "least = 9 is more than agents hold on average, 8; take fewer"),
        (Dirichlet(least=9), "least = 9 is more than agents hold on average, 8; take fewer"),
        (Uniform(9), "low = 9 is more than agents hold on average, 8; take fewer"),
        (LogNormal(1e-4), "of 1,000 agents nobody would hold a sample"),
    ],
)
def test_sizes_that_cannot_be_dealt_are_refused(sizes, said):
    """What only the data say: an equal share is 8 here."""
    with pytest.raises(ValueError, match=f"agents.samples: {said}"):
        held(sizes)
