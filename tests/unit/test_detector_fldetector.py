"""FLDetector: its Hessian, its clusters, and whom it suspects."""

from __future__ import annotations

import numpy as np
import pytest

from fedjury import detection
from fedjury.detection import SUSPECT, Observation
from fedjury.detection.fldetector import hessian_product
from fedjury.detection.gaps import _dispersions, boundary


def dense(steps, changes):
    """Make B from the textbook's update, one pair after the other."""
    sigma = (changes[-1] @ steps[-1]) / (steps[-1] @ steps[-1])
    b = sigma * np.eye(steps.shape[1])
    for s, y in zip(steps, changes, strict=True):
        b = b - np.outer(b @ s, b @ s) / (s @ b @ s) + np.outer(y, y) / (y @ s)
    return b


@pytest.mark.parametrize("sign", [1, -1])
def test_the_compact_form_is_the_textbooks_update(sign):
    """L-BFGS in one piece equals BFGS step by step, also for descent, where curvature is < 0."""
    rng = np.random.default_rng(0)
    root = rng.standard_normal((8, 8))
    steps = rng.standard_normal((5, 8))
    changes = sign * steps @ (root @ root.T + np.eye(8))
    vector = rng.standard_normal(8)
    product = hessian_product(steps, changes, vector)
    np.testing.assert_allclose(product, dense(steps, changes) @ vector, rtol=1e-8)
    np.testing.assert_allclose(hessian_product(steps, changes, steps[-1]), changes[-1], rtol=1e-8)


def test_the_best_cut_is_the_one_that_trying_all_finds():
    """The sums of squares within one cluster, and within the best two."""
    values = np.sort(np.random.default_rng(1).random(17) ** 3)

    def spread(x):
        return ((x - x.mean()) ** 2).sum()

    (one, two), cut = _dispersions(values)
    tried = [spread(values[:i]) + spread(values[i:]) for i in range(1, 17)]
    assert one == pytest.approx(spread(values))
    assert two == pytest.approx(min(tried))
    assert cut == np.argmin(tried) + 1


def test_clusters_are_seen_where_there_are_any():
    """Two heaps are cut in the middle; one heap, uniform or equal numbers are not cut."""
    rng = np.random.default_rng(2)
    heap = rng.normal(1, 0.01, 50)
    assert boundary(np.concatenate([heap, heap + 2])) == pytest.approx(2, abs=0.05)
    assert boundary(np.append(heap, 9.0)) == pytest.approx(5, abs=0.1)
    assert boundary(rng.random(100)) is None
    assert boundary(heap) is None
    assert boundary(np.ones(9)) is None
    assert boundary(np.array([1.0, 2.0])) is None


ATTACKER = 3


def quadratic_rounds(count, noise):
    """Play rounds of agents who descend f_i = ‖w - c_i‖² / 2, each near its c_i but for one.

    That one sends something else each time, and was asleep in the first five rounds.
    """
    rng = np.random.default_rng(0)
    names = tuple("abcdefghijkl")
    centres = rng.standard_normal((12, 6))
    weights = np.zeros(6, dtype=np.float32)
    for t in range(1, count + 1):
        updates = 0.1 * (centres - weights) + noise * rng.standard_normal((12, 6))
        updates[ATTACKER] = rng.standard_normal(6) if t > 5 else 0
        updates = updates.astype(np.float32)
        yield Observation(t, names, updates, weights, dict.fromkeys(names, 1), {})
        weights = weights + np.median(updates, axis=0)


def test_who_cannot_be_predicted_is_suspected_and_nobody_before_the_window_is_full():
    """The attacker, awake in round 6, is flagged from its second distance on."""
    detect, memory = detection.build("fldetector", window=4), {}
    for seen in quadratic_rounds(14, 1e-3):
        scores, memory = detect(seen, memory)
        flagged = [name for name, score in scores.items() if score >= SUSPECT]
        assert flagged == (["d"] if seen.round >= 8 else [])


def test_a_rejected_round_leaves_the_path_of_models_alone():
    """The same model again is no step: the curvature is that of the rounds that were accepted."""
    detect, memory = detection.build("fldetector", window=4), {}
    rounds = list(quadratic_rounds(9, 1e-3))
    for seen in [*rounds[:5], *(rounds[4]._replace(round=5 + i) for i in range(1, 4))]:
        _, memory = detect(seen, memory)
    assert memory["rounds"].tolist() == [1, 2, 3, 4, 5]
