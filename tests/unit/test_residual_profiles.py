"""Error profiles of numbers: how many predictions lie above and below the bins of their targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedjury.learning.error_profiles import edges_of, residual_profile
from fedjury.learning.evaluation import metrics_of
from fedjury.learning.task import classification, mae, regression, rmse

NAN, INF = float("nan"), float("inf")


def test_each_sample_counts_by_the_bin_of_its_target():
    """Two bins, 1 to 2.5 and 2.5 to 4: one prediction in its bin, two above theirs, one below."""
    targets = np.array([1.0, 2.0, 3.0, 4.0])
    edges = edges_of(targets, 2)
    np.testing.assert_array_equal(edges, [1, 2.5, 4])
    profile = residual_profile(np.array([1.0, 3.0, 2.0, 5.0]), targets, edges)
    np.testing.assert_array_equal(profile, [1, 1, 0, 1])


def test_many_models_are_counted_at_once():
    """Predictions (2, 1, 3) give profiles (2, 1, 2K), each as alone."""
    targets = np.array([0.0, 1.0, 3.0])
    predictions = np.array([[[0.0, 1.0, 9.0]], [[-1.0, -1.0, 1.9]]])
    profiles = residual_profile(predictions, targets, edges_of(targets))
    np.testing.assert_array_equal(profiles, [[[0, 0, 1, 0, 0, 0]], [[0, 0, 0, 1, 1, 1]]])


def test_few_different_targets_have_a_bin_each():
    """Between 0, 1 and 3 bins end half-way, and the outer ones reach as far outwards."""
    np.testing.assert_array_equal(edges_of(np.array([0, 1, 1, 3])), [-0.5, 0.5, 2, 4])


def test_ties_make_fewer_bins():
    """Of thirteen targets nine are 0: the first quantiles fall together."""
    targets = np.array([0.0] * 9 + [1, 2, 3, 4])
    edges = edges_of(targets, 4)
    assert len(edges) < 5
    assert (np.diff(edges) > 0).all()
    assert (edges[0], edges[-1]) == (0, 4)


def test_a_single_value_is_a_bin_without_width():
    """Where all targets are 7, whatever is not 7 lies above or below."""
    targets = np.array([7.0, 7.0, 7.0])
    profile = residual_profile(np.array([7.0, 7.1, 6.0]), targets, edges_of(targets))
    np.testing.assert_array_equal(profile, [1, 1])


def test_what_is_no_number_lies_above():
    """NaN and infinity lie above, minus infinity below."""
    targets = np.array([0.0, 1.0, 2.0])
    edges = np.array([0.0, 2.0])
    np.testing.assert_array_equal(residual_profile(np.full(3, NAN), targets, edges), [3, 0])
    np.testing.assert_array_equal(residual_profile(np.full(3, INF), targets, edges), [3, 0])
    np.testing.assert_array_equal(residual_profile(np.full(3, -INF), targets, edges), [0, 3])


def test_targets_beyond_the_bins_belong_to_the_nearest():
    """Edges of other targets serve too: -5 is of the first bin, 9 of the last."""
    edges = np.array([0.0, 1.0, 2.0])
    profile = residual_profile(np.array([-5.0, 9.0]), np.array([-5.0, 9.0]), edges)
    np.testing.assert_array_equal(profile, [0, 1, 1, 0])


@pytest.mark.parametrize("targets", [[], [1.0, NAN], [[1.0, 2.0]]])
def test_targets_that_are_no_numbers_are_refused(targets):
    with pytest.raises(ValueError, match="must be"):
        edges_of(np.array(targets))


def test_predictions_must_be_as_many_as_targets():
    with pytest.raises(ValueError, match="do not fit"):
        residual_profile(np.zeros(2), np.zeros(3), np.array([0.0, 1.0]))


def test_profiles_of_a_task_are_all_as_long():
    """Agents with two different targets and with thirty have profiles of 2 x 10 numbers."""
    task = regression()
    for targets in (np.array([0.0, 1.0]), np.arange(30.0)):
        profile = task.profile(targets + 100, targets)
        assert profile.shape == (task.kinds,) == (20,)
        assert profile[:10].sum() == len(targets)
    few = task.profile(np.array([5.0, -5.0]), np.array([0.0, 1.0]))
    assert (few[0], few[11], few.sum()) == (1, 1, 2)


def test_metrics_of_numbers_worked_by_hand():
    """Errors of 3 and -4: mean square 12.5, mean absolute 3.5."""
    predictions, targets = np.array([3.0, 0.0]), np.array([0.0, 4.0])
    assert rmse(predictions, targets) == pytest.approx(12.5**0.5)
    assert mae(predictions, targets) == 3.5


def test_all_metrics_are_named_and_what_is_not_finite_is_left_out():
    """Classes have one metric, numbers have two; a model that answers NaN has none."""
    y = torch.tensor([1.0, 2.0])
    found = metrics_of(lambda _: np.array([1.0, 4.0]), y, regression())
    assert found(np.zeros(1, np.float32)) == {"rmse": pytest.approx(2**0.5), "mae": 1.0}
    nothing = metrics_of(lambda _: np.array([1.0, NAN]), y, regression())
    assert nothing(np.zeros(1, np.float32)) == {}
    classes = metrics_of(lambda _: np.array([0, 1]), torch.tensor([0, 0]), classification(2))
    assert classes(np.zeros(1, np.float32)) == {"accuracy": 0.5}


def test_a_network_for_numbers_has_one_output():
    """The task builds it, squeezes its outputs, and takes the square of its errors."""
    task = regression()
    model = task.build("mlp", (3,), seed=0)
    outputs = model(torch.zeros(5, 3))
    assert outputs.shape == (5, 1)
    assert task.predict(outputs).shape == (5,)
    losses = task.loss(torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0]))
    np.testing.assert_array_equal(losses, [1, 4])
