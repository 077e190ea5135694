"""Rules that choose updates by the distances between them: Krum and its kin, DnC."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from support.updates import HUGE, build, honest_updates, matrix, ones, random_updates

from fedjury import rules
from fedjury.rules import Context
from fedjury.rules.bulyan import near_the_median
from fedjury.rules.distances import cosine_distances, squared_distances
from fedjury.rules.partitions import cut

# Distances


@pytest.mark.parametrize("block", [30, 1 << 19])
def test_distances_are_scipys(monkeypatch, block):
    """On random updates, in one block or in many, they are SciPy's."""
    monkeypatch.setattr("fedjury.rules.blocks.BLOCK", block)
    updates = random_updates(20, 33)
    expected = cdist(updates.astype(np.float64), updates.astype(np.float64), "sqeuclidean")
    result = squared_distances(cut(updates, 1), np.arange(20))
    np.testing.assert_allclose(result, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [1e6, HUGE])
def test_fakes_do_not_blur_honest_distances(scale):
    """Rows a million times as long, or as long as float32 allows, change no other distance."""
    updates = honest_updates(10, 100)
    alone = squared_distances(cut(updates, 1), np.arange(10))
    fakes = np.full((5, 100), scale, dtype=np.float32)
    among = squared_distances(cut(np.concatenate([updates, fakes]), 1), np.arange(15))
    np.testing.assert_allclose(among[:10, :10], alone, rtol=1e-10)
    assert np.isfinite(among).all()


def test_small_angles_have_a_distance():
    """At the angles 0, 2e-6 and -1e-6, 1 - cosine is half of their differences squared."""
    updates = matrix([1e6, 0], [1e6, 2], [1e6, -1], [0, 0], [-5, 0])
    apart = cosine_distances(cut(updates, 1), np.arange(5))
    np.testing.assert_allclose(apart[:3, :3] * 1e12, [[0, 2, 0.5], [2, 0, 4.5], [0.5, 4.5, 0]])
    np.testing.assert_allclose(apart[3], [1, 1, 1, 0, 1])  # zeros are at right angles to all
    assert apart[0, 4] == 2


def test_equal_rows_have_no_distance():
    """Rounding leaves nothing between equal rows, and nothing negative between any."""
    updates = np.repeat(random_updates(4, 1000), 3, axis=0)
    distances = squared_distances(cut(updates, 1), np.arange(12))
    assert (distances >= 0).all()
    assert (distances[:3, :3] == 0).all()


# A large part in common

COMMON = {"a million": (1e6, 1e-3), "a thousand": (1e3, 1e-7), "the ends": (1e38, 1e-30)}
"""What all updates have in common, and the unit in which they differ."""


OUTLIER = [[1e6, 0.1], [1e6, 0], [1e6, 0.001], [1e6, 0.002], [1e6, 0.003]]
"""Five updates of which the first is far from the others, beside a million that all share."""


def test_krum_sees_an_outlier_beside_a_million():
    """By two neighbours .001 and .002 score 1 + 1 = 2, 0 and .003 1 + 4 = 5, .1 far more."""
    chosen = build("krum", count=1)(matrix(*OUTLIER), ones(5))
    assert chosen[0] == 1e6
    assert chosen[1] in (np.float32(0.001), np.float32(0.002))
    rest = build("multi_krum", count=1)(matrix(*OUTLIER), ones(5))
    np.testing.assert_allclose(rest, [1e6, 0.0015], rtol=1e-6)


def alike(case, *steps):
    """Make an update (common, step units) of each step."""
    common, unit = COMMON[case]
    return matrix(*([common, step * unit] for step in steps))


@pytest.mark.parametrize("case", COMMON)
def test_what_all_have_in_common_hides_no_distance(case):
    """Of 0, 1, 3 and an outlier 100 the squared distances are 1, 9, 4 and 10000, 9801, 9409.

    One row a million units away, and two of another kind that differ by 2, change none of them.
    """
    updates = alike(case, 0, 1, 3, 100, 1e6)
    updates = np.concatenate([updates, -alike(case, 5, 7)])
    distances = squared_distances(cut(updates, 1), np.arange(7)) / COMMON[case][1] ** 2
    expected = [[0, 1, 9, 1e4], [1, 0, 4, 9801], [9, 4, 0, 9409], [1e4, 9801, 9409, 0]]
    np.testing.assert_allclose(distances[:4, :4], expected, rtol=1e-6)
    np.testing.assert_allclose(distances[5:, 5:], [[0, 4], [4, 0]], rtol=1e-6)


@pytest.mark.parametrize("case", COMMON)
@pytest.mark.parametrize(
    ("name", "chosen"), [("krum", 3), ("multi_krum", 13.5 / 6), ("bulyan", 2), ("dnc", 13.5 / 6)]
)
def test_what_all_have_in_common_does_not_decide(case, name, chosen):
    """Seven updates 100, 0, 1, 2, 3, 4, 3.5 beside a large common part, one of them Byzantine.

    By its four nearest 3 has the least score: .25 + 1 + 1 + 4 = 6.25; 2 has 8.25 and 3.5 has 9. All
    but 100 add up to 13.5. Bulyan chooses 3; of the six left by three neighbours 2 (1 + 2.25 + 4 =
    7.25, 3.5 has 8.75); of 100, 0, 1, 4, 3.5 by two 3.5 (.25 + 6.25, 4 has 9.25); of 100, 0, 1, 4
    by one 0 (1, and 1 as well, later in the order); at last 1, as far from 4 as 4 from it but
    first. Of 0, 1, 2, 3, 3.5 the three nearest to the median are 1, 2, 3: 2.
    """
    updates = alike(case, 100, 0, 1, 2, 3, 4, 3.5)
    result = build(name, count=1)(updates, ones(7))
    np.testing.assert_allclose(result[1] / COMMON[case][1], chosen, rtol=1e-6)


@pytest.mark.parametrize("case", COMMON)
def test_mixing_sees_past_what_all_have_in_common(case):
    """Of 100, 0, 1, 2, 3 the four nearest are 0 … 3 for those, and 100, 1, 2, 3 for 100."""
    mixed, _ = rules.PRE_AGGREGATIONS["nnm"](1)(alike(case, 100, 0, 1, 2, 3), ones(5), Context())
    np.testing.assert_allclose(mixed[:, 1] / COMMON[case][1], [26.5, *[1.5] * 4], rtol=1e-6)


# Golden numbers


def test_krum_by_hand():
    """Five updates, one Byzantine: the two nearest count.

    0: 1 + 9; 1: 1 + 4; 3: 4 + 9; 10: 49 + 81; 100: 8100 + 9409. The least is 5: the update 1.
    """
    updates = matrix([0], [10], [1], [100], [3])
    for hyperparameters in ({"count": 1}, {"share": 0.2}, {}):
        np.testing.assert_array_equal(build("krum", **hyperparameters)(updates, ones(5)), [1])


def test_multi_krum_by_hand():
    """Of the same, all but one Byzantine are 0, 1, 3, 10: their mean is 3.5; the best two: 0.5."""
    updates = matrix([0], [10], [1], [100], [3])
    np.testing.assert_array_equal(build("multi_krum", count=1)(updates, ones(5)), [3.5])
    np.testing.assert_array_equal(build("multi_krum", count=1, best=2)(updates, ones(5)), [0.5])
    np.testing.assert_array_equal(build("multi_krum", count=1, best=1)(updates, ones(5)), [1])


def test_bulyan_by_hand():
    """Seven updates, one Byzantine: five are chosen, of which three are averaged.

    With four neighbours 2 has the least score, 1 + 1 + 4 + 9 = 15; then with three 3 has, 17; with
    two 1, 17; with one 5, 9 (8 as well, but it comes later); at last 0. Of 0, 1, 2, 3, 5 the three
    nearest to the median are 1, 2, 3. All five would give 2.2: the known mistake.
    """
    updates = matrix([0], [1], [2], [3], [5], [8], [100])
    np.testing.assert_array_equal(build("bulyan", count=1)(updates, ones(7)), [2])


@pytest.mark.parametrize(
    ("values", "kept", "nearest"),
    [
        ([-1, -1, 0, 0, 1], 3, [-1, 0, 0]),  # 1 is as near as -1: the lower one
        ([-1, 0, 0, 1, 1], 3, [-1, 0, 0]),
        ([0, 0, 0, 4, 5], 3, [0, 0, 0]),
        ([-5, -5, -5, 0, 0, 1, 2], 4, [0, 0, 1, 2]),
        ([1, 1, 2, 4, 5, 5], 2, [2, 4]),  # the median is 3
        ([1, 1, 2, 4, 5, 5], 3, [2, 4, 1]),
        ([7], 1, [7]),
    ],
)
def test_the_values_nearest_to_the_median(values, kept, nearest):
    """Where colluders send one and the same, values repeat: each is near or far by itself."""
    result = near_the_median(matrix(*([v] for v in values)), 0, np.arange(len(values)), kept)
    np.testing.assert_allclose(result, [np.mean(nearest)], rtol=1e-6)


def test_bulyan_where_the_low_end_is_sent_twice():
    """Of -1, -1, 0, 0, 1, 9, -9 with one Byzantine, all but 9 and -9 are chosen.

    By four neighbours 0 scores 1 + 1 + 0 + 1 = 3; by three the other 0, 1 + 1 + 1; by two -1, 0 +
    4; by one the other -1, 4, as 1 does, which comes last. Their median is 0, to which 0, 0 and one
    of -1 and 1 are nearest. The window from -1 to 0 that holds -1 twice reaches no further, but is
    not nearer: it gives -2/3.
    """
    updates = matrix([-1], [-1], [0], [0], [1], [9], [-9])
    np.testing.assert_allclose(build("bulyan", count=1)(updates, ones(7)), [-1 / 3], rtol=1e-6)


def test_alie_gets_no_more_out_of_bulyan_than_it_should():
    """Forty honest updates and ten that all send one deviation below: what the definition gives.

    On average that is three quarters of a deviation; nine tenths with the nearest window by reach.
    """
    honest = random_updates(40, 300)
    fakes = np.tile(honest.mean(axis=0) - honest.std(axis=0), (10, 1))
    updates = np.concatenate([fakes, honest]).astype(np.float32)
    result = build("bulyan", count=10)(updates, ones(50))
    expected = bulyan(updates.astype(np.float64), 10)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
    assert -0.8 < np.mean(result / honest.std(axis=0)) < -0.7


def test_dnc_by_hand():
    """In one dimension the update farthest from the mean goes: (1 + 2 + 3) / 3 = 2 are left."""
    updates = matrix([1], [100], [2], [3])
    np.testing.assert_array_equal(build("dnc", count=1)(updates, ones(4)), [2])


# By definition


def krum_score(updates, i, f):
    distances = np.sort(((updates - updates[i]) ** 2).sum(axis=1))[1:]
    return distances[: len(updates) - f - 2].sum()


@pytest.mark.parametrize(("n", "f"), [(9, 3), (30, 0), (41, 10)])
def test_krum_by_definition(n, f):
    """On random updates it is what a loop over the definition gives."""
    updates = random_updates(n, 20, seed=n)
    scores = [krum_score(updates.astype(np.float64), i, f) for i in range(n)]
    best = np.argsort(scores)
    np.testing.assert_array_equal(build("krum", count=f)(updates, ones(n)), updates[best[0]])
    mean = updates[best[: n - f]].mean(axis=0)
    np.testing.assert_allclose(
        build("multi_krum", count=f)(updates, ones(n)), mean, rtol=1e-4, atol=1e-6
    )


def bulyan(updates, f):
    """Aggregate as the paper's text says, step by step."""
    left, chosen = list(range(len(updates))), []
    while len(chosen) < len(updates) - 2 * f:
        among = updates[left]
        scores = [krum_score(among, i, f) for i in range(len(left))]
        chosen.append(left.pop(int(np.argmin(scores))))
    values = np.sort(updates[chosen], axis=0)  # of two that are equally near, the lower one first
    order = np.abs(values - np.median(values, axis=0)).argsort(axis=0, kind="stable")
    return np.take_along_axis(values, order[: len(chosen) - 2 * f], axis=0).mean(axis=0)


@pytest.mark.parametrize(("n", "f"), [(11, 2), (23, 5), (40, 4)])
def test_bulyan_by_definition(n, f):
    """On random updates it is what a loop over the definition gives."""
    updates = random_updates(n, 30, seed=n)
    result = build("bulyan", count=f)(updates, ones(n))
    np.testing.assert_allclose(result, bulyan(updates.astype(np.float64), f), rtol=1e-5, atol=1e-7)


def test_dnc_by_definition():
    """With all coordinates it is what NumPy's singular value decomposition gives."""
    updates = np.concatenate([random_updates(24, 40), 0.7 + random_updates(6, 40, seed=1)])
    centred = updates.astype(np.float64) - updates.mean(axis=0, dtype=np.float64)
    direction = np.linalg.svd(centred)[2][0]
    kept = np.argsort((centred @ direction) ** 2)[:24]
    result = build("dnc", count=6)(updates, ones(30))
    np.testing.assert_allclose(result, updates[kept].mean(axis=0), rtol=1e-4, atol=1e-6)


# Behaviour


@pytest.mark.parametrize("name", ["krum", "multi_krum", "bulyan"])
def test_what_is_not_finite_might_as_well_not_have_come(name):
    """Two of three Byzantine updates that are not finite leave one Byzantine update to expect."""
    updates = random_updates(16, 10)
    bad = np.insert(updates, [3, 8], np.nan, axis=0)
    expected = build(name, count=1)(updates, ones(16))
    np.testing.assert_array_equal(build(name, count=3)(bad, ones(18)), expected)


@pytest.mark.parametrize("name", ["multi_krum", "dnc"])
def test_fakes_are_left_out_whole(name):
    """Where fakes stand apart, what is left is the mean of the honest updates."""
    honest = honest_updates(30, 40)
    fakes = honest[:6] - 20
    result = build(name, count=6)(np.concatenate([fakes, honest]), ones(36))
    np.testing.assert_allclose(result, honest.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_bulyan_bounds_each_coordinate():
    """One coordinate that Krum does not notice is put right by the median of it (El Mhamdi)."""
    updates = random_updates(31, 2000)
    updates[:5, 7] += 10  # no more than the noise of all coordinates together
    honest = updates[5:, 7]
    assert honest.min() <= build("bulyan", count=5)(updates, ones(31))[7] <= honest.max()


def test_dnc_draws_its_coordinates_from_the_round():
    """Another round looks at other coordinates, and may leave out another update."""
    updates = random_updates(20, 50)
    rule = build("dnc", count=5, coordinates=3)
    results = [rule(updates, ones(20), Context(round=r)) for r in (1, 1, 2)]
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[1], results[2])


def test_dnc_never_leaves_out_all():
    """Where each update is left out at some time, those left out least often are the result."""
    updates = random_updates(6, 30)
    rule = build("dnc", count=2, coordinates=1, iterations=30)
    assert np.linalg.norm(rule(updates, ones(6))) > 0


# Mistakes


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("krum", {"count": 4}, r"Krum needs at least 11 updates to withstand 4 .*\(2 \* 4 \+ 3\)"),
        ("multi_krum", {"count": 4}, "Multi-Krum needs at least 11 updates .* not 10"),
        ("multi_krum", {"count": 3, "best": 8}, "best 8 of 10 updates, of which 3 .* at most 7"),
        ("bulyan", {"count": 2}, r"Bulyan needs at least 11 updates .*\(4 \* 2 \+ 3\), not 10"),
        ("dnc", {"count": 5}, "DnC needs at least 11 updates to withstand 5 Byzantine"),
        ("dnc", {"count": 4, "factor": 2.5}, "leaves out 10 of 10 updates"),
    ],
)
def test_too_few_updates_are_explained(name, hyperparameters, message):
    """Ten updates are too few for these numbers, and the error says how many are needed."""
    rule = build(name, **hyperparameters)
    with pytest.raises(ValueError, match=message):
        rule(random_updates(10, 3), ones(10))


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("krum", {"count": 1, "share": 0.1}, r"a count \(1\) or a share \(0\.1\), not by both"),
        ("krum", {"count": -1}, "must not be negative, not -1"),
        ("bulyan", {"share": 0.5}, r"must lie in \[0, 0\.5\), not 0\.5"),
        ("multi_krum", {"best": 0}, "best .* must be int greater than or equal to 1, not 0"),
        ("dnc", {"iterations": 0}, "iterations .* must be int greater than or equal to 1"),
        ("dnc", {"coordinates": 0}, "coordinates .* must be int greater than or equal to 1"),
        ("dnc", {"factor": 0.0}, "factor of rule 'dnc' must be float greater than 0"),
    ],
)
def test_mistakes_in_settings_are_explained(name, hyperparameters, message):
    """A value that cannot be meant is an error that says what would be right."""
    with pytest.raises(ValueError, match=message):
        build(name, **hyperparameters)
