"""Detectors take short cuts; whom they suspect is what plain float64 arithmetic says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fedjury import detection
from fedjury.detection import SUSPECT, Observation, angles

N, D = 120, 300
NAMES = tuple(f"agent-{i:03d}" for i in range(N))
LIMITS = {"parallel": 0.02, "fixed": 0.1}


# The reference: every pair, every change, nothing spared


def sines(rows, neighbour):
    """Return the sine between each row and its nearest neighbours, from differences."""
    units = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    found = []
    for i, unit in enumerate(units):
        apart = np.sqrt(((np.delete(units, i, axis=0) - unit) ** 2).sum(axis=1))
        nearest = min(np.sort(apart)[neighbour - 1], np.sqrt(2))
        found.append(nearest * np.sqrt(1 - nearest**2 / 4))
    return np.array(found)


def beside_median(values):
    median = np.median(values)
    return values / median if median > angles.ROUNDING else np.ones(len(values))


def left_of(change, step, update):
    """Return what is left of a change beside -λ times the model's step, for the best λ > 0."""
    along = change @ step
    if along >= 0:
        return 1.0
    rest = change - step * along / (step @ step)
    return min(1.0, np.linalg.norm(rest) / min(np.linalg.norm(change), np.linalg.norm(update)))


def fixed_points(rounds):
    """Score as ``fixed_point`` is described, round after round; what is not finite aside."""
    last = {}
    for seen in rounds:
        rows, weights = seen.updates.astype(np.float64), seen.weights.astype(np.float64)
        some = [i for i in range(N) if np.isfinite(rows[i]).all() and rows[i].any()]
        crowding = beside_median(sines(rows[some], 2))
        left = [
            left_of(rows[i] - last[i][0], weights - last[i][1], rows[i])
            if i in last and (weights != last[i][1]).any()
            else 1.0
            for i in some
        ]
        pulling = beside_median(np.array(left))
        parallel, fixed = LIMITS.values()
        scores = np.maximum(parallel / (parallel + crowding), fixed / (fixed + pulling))
        last |= {i: (rows[i], weights) for i in some}
        yield {NAMES[i]: score for i, score in zip(some, scores, strict=True)}


def similarities(rounds):
    """Score as ``similarity`` is described: the sums of all that each agent sent."""
    sums = np.zeros((N, D), np.float32)
    for seen in rounds:
        sums = sums + seen.updates
        limit = 0.05
        found = beside_median(sines(sums.astype(np.float64), 1))
        yield dict(zip(NAMES, limit / (limit + found), strict=True))


# Rounds to look at: each case makes the updates (N, D) of a round


def honest(world):
    """Make updates with a direction in common, one of their own, and noise."""
    noise = world.rng.standard_normal((N, D)) + 2 * world.own
    return world.common - 0.3 * world.weights + noise


def crowd(world):
    """Let thirty send what MPAF's fakes do."""
    rows = honest(world)
    rows[:30] = world.scale * (world.target - world.weights)
    return rows


def alone(world):
    """Let one fake be alone."""
    rows = honest(world)
    rows[7] = world.scale * (world.target - world.weights)
    return rows


def near_the_limit(world):
    """Let triplets be apart by a third of the limit to three times as much, one after the other."""
    rows = honest(world)
    for i, apart in enumerate(np.geomspace(0.3, 3, 20) * LIMITS["parallel"]):
        those = rows[3 * i : 3 * i + 3]
        size = np.linalg.norm(those[0]) * apart / np.sqrt(2 * D)
        those[:] = those[0] + size * world.rng.standard_normal((3, D))
    return rows


def nearly_fixed(world):
    """Let twenty pull to fixed points of their own, with more and more noise."""
    rows = honest(world)
    for i, noise in enumerate(np.geomspace(0.001, 1, 20)):
        pull = np.roll(world.target, i) - world.weights
        rows[i] = 3 * pull + noise * world.rng.standard_normal(D)
    return rows


def much_in_common(world):
    """Let everybody send 30,000 times the same and a little of their own, ten nearly the same."""
    rows = world.rng.standard_normal((N, D)) + 3e4 * world.common
    rows[:10] = rows[0] + 1e-4 * world.rng.standard_normal((10, D))
    return rows


def majority(world):
    """Let more than half be a crowd: nobody can say who is fake."""
    rows = honest(world)
    rows[:70] = world.target
    return rows


def odd(world):
    """Let lengths go from 1e-30 to 1e30, some are idle, some be no numbers, and one crowd."""
    rows = honest(world)
    rows[:30] = world.target - world.weights
    rows[:60] *= np.geomspace(1e-30, 1e30, 60)[:, np.newaxis]
    rows[60:70] = 0
    rows[70:75, 1] = [np.nan, np.inf, -np.inf, 3e38, np.nan]
    return rows


CASES = [honest, crowd, alone, near_the_limit, nearly_fixed, much_in_common, majority, odd]


def rounds_of(case, seed, count=4):
    """Play rounds of a case; the model moves by the mean of the honest, as it were."""
    rng = np.random.default_rng(seed)
    world = SimpleNamespace(
        rng=rng,
        common=rng.standard_normal(D),
        target=rng.standard_normal(D),
        scale=1e3,
        own=rng.standard_normal((N, D)),
        weights=rng.standard_normal(D),
    )
    for t in range(1, count + 1):
        world.weights = world.weights.astype(np.float32).astype(np.float64)
        rows = case(world).astype(np.float32)
        yield Observation(
            t, NAMES, rows, world.weights.astype(np.float32), dict.fromkeys(NAMES, 1), {}
        )
        if t != 2:  # its candidate is rejected
            world.weights = world.weights + 0.1 * rng.standard_normal(D)


def same_verdicts(detector, reference, rounds):
    """Check that the same are flagged, with the same scores, and others' are about the same."""
    detect, memory = detection.build(detector), {}
    for seen, told in zip(rounds, reference(rounds), strict=True):
        scores, memory = detect(seen, memory)
        for name, score in told.items():
            assert (scores[name] >= SUSPECT) == (score >= SUSPECT), (name, scores[name], score)
            assert scores[name] == pytest.approx(score, abs=1e-3 if score >= SUSPECT else 0.2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES)
def test_fixed_points_are_told_as_exact_arithmetic_tells_them(case, seed):
    """Who is flagged, and how much, is what comes of looking at every pair and every change."""
    same_verdicts("fixed_point", fixed_points, list(rounds_of(case, seed)))


@pytest.mark.parametrize("case", [honest, crowd, near_the_limit, much_in_common, majority])
def test_similar_sums_are_told_as_exact_arithmetic_tells_them(case):
    """So it is of FoolsGold's sums."""
    same_verdicts("similarity", similarities, list(rounds_of(case, 0)))


def test_the_cases_are_about_something():
    """In each of them somebody is flagged, but where nobody is to be; some are near the limit."""
    most = {case: [] for case in CASES}
    for case in CASES:
        for told in fixed_points(list(rounds_of(case, 0))):
            most[case].append({name for name, score in told.items() if score >= SUSPECT})
    assert not set().union(*most[honest], *most[majority])
    assert [len(found) for found in most[crowd]] == [30] * 4
    assert most[alone][1:] == [{NAMES[7]}, set(), {NAMES[7]}]
    assert all(10 < len(found) < 60 for found in most[near_the_limit])
    assert 5 < len(most[nearly_fixed][1]) < 20
    assert {*NAMES[:10]} <= most[much_in_common][0]
    assert {*NAMES[:30]} <= most[odd][0]
