"""Many models on the same samples in one pass: what each says alone, and its losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.worlds import TASK
from torch import nn

from fedjury.agents.error_profile_cache import ErrorProfileCache
from fedjury.learning import evaluation, models
from fedjury.learning.evaluation import losses_each, predict, predict_each
from fedjury.learning.shards import Shards
from fedjury.learning.task import NO_CLASS, classification, regression
from fedjury.learning.weights import flatten

MNIST = (1, 28, 28)


def about(model, groups, seed=0, scale=0.05):
    """Draw models (G, d) about one."""
    noise = np.random.default_rng(seed).normal(0, scale, (groups, len(flatten(model))))
    return (flatten(model) + noise).astype(np.float32)


def images(samples, shape=MNIST, seed=0):
    """Draw images, half of their pixels black."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.maximum(rng.random((samples, *shape), np.float32) * 2 - 1, 0))


def one_by_one(model, weights, x, task=TASK):
    """Return the answers (G, N), a model at a time."""
    return np.stack([predict(model, row, x, task) for row in weights])


@pytest.mark.parametrize("name", ["mlp", "classifier", "lenet", "cnn"])
@pytest.mark.parametrize(("groups", "samples"), [(1, 5), (10, 1), (7, 250), (20, 130)])
def test_models_answer_together_what_each_answers_alone(name, groups, samples):
    """Whatever their number, and whether samples fill a pass or not."""
    model = models.build(name, MNIST, 10, 0)
    weights, x = about(model, groups), images(samples)
    result = predict_each(model, weights, x, TASK)
    assert result.shape == (groups, samples)
    np.testing.assert_array_equal(result, one_by_one(model, weights, x))


def test_few_fit_into_a_pass_and_answers_are_the_same(monkeypatch):
    """Two models a pass or all seven: memory is bounded, answers do not tell."""
    model = models.build("lenet", MNIST, 10, 0)
    weights, x = about(model, 7), images(120)
    whole = predict_each(model, weights, x, TASK)
    monkeypatch.setattr(evaluation, "TOGETHER", 2 * evaluation.BATCH_OF_EACH * 864)
    np.testing.assert_array_equal(predict_each(model, weights, x, TASK), whole)


def with_norm_and_dropout():
    """Build a small network of layers that act otherwise while it learns."""
    layers = nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*layers, nn.Linear(8, 10))


def test_running_statistics_are_each_model_s_own_and_nothing_drops_out():
    """Models without stages, with batch norm and dropout, answer as they do alone."""
    torch.manual_seed(0)
    model = with_norm_and_dropout().train()
    weights = np.abs(about(model, 4, scale=0.3))  # variances are positive
    x = images(230, (1, 4, 4))
    expected = one_by_one(model, weights, x)
    assert len(np.unique(expected, axis=0)) > 1
    np.testing.assert_array_equal(predict_each(model.train(), weights, x, TASK), expected)


def test_a_model_of_nan_has_no_class_and_leaves_the_others_alone():
    """One group's numbers do not get into the answers of another."""
    model = models.build("classifier", MNIST, 10, 0)
    weights, x = about(model, 3), images(20)
    expected = one_by_one(model, weights, x)
    weights[1] = np.nan
    result = predict_each(model, weights, x, TASK)
    assert (result[1] == NO_CLASS).all()
    np.testing.assert_array_equal(result[[0, 2]], expected[[0, 2]])


def test_models_of_another_length_are_refused():
    """As by a single pass: whole numbers of parameters are named."""
    model = models.build("mlp", MNIST, 10, 0)
    with pytest.raises(ValueError, match=r"25,450 parameters"):
        predict_each(model, np.zeros((2, 7), np.float32), images(3), TASK)


@pytest.mark.parametrize("name", ["mlp", "lenet"])
def test_losses_are_torchs_cross_entropy(name):
    """Each model's loss on each sample, and not their mean."""
    model = models.build(name, MNIST, 10, 0)
    weights, x = about(model, 6), images(210)
    y = torch.from_numpy(np.random.default_rng(3).integers(0, 10, 210))
    result = losses_each(model, weights, x, y, TASK)
    assert result.shape == (6, 210)
    for row, found in zip(weights, result, strict=True):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(row.copy()), model.parameters())
        expected = F.cross_entropy(model(x), y, reduction="none")
        np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_losses_of_a_line_by_hand():
    """A line w x + b, of w, b = 1, 0 and 2, 1: at x = 1, 3 with 0, 5 wanted 1, 4 and 9, 4."""
    model = nn.Sequential(nn.Linear(1, 1))
    weights = np.array([[1, 0], [2, 1]], np.float32)
    x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 5.0])
    result = losses_each(model, weights, x, y, regression())
    np.testing.assert_array_equal(result, [[1, 4], [9, 4]])


def members():
    """Return a model, and what looks at it on the data of three with 10, 4 and 7 samples."""
    rng = np.random.default_rng(0)
    x, y = images(30), torch.from_numpy(rng.integers(0, 10, 30))
    indices = torch.from_numpy(rng.permutation(30).reshape(3, 10))
    data = Shards(x, y, indices, torch.tensor([10, 4, 7]))
    model = models.build("classifier", MNIST, 10, 0)
    return model, data, ErrorProfileCache(model, data, classification(10), "float32")


def test_members_profile_many_models_as_they_do_one():
    """Members with unequal samples, in the order that is asked for; each one's own data."""
    model, _, cache = members()
    weights, rows = about(model, 5), np.array([2, 0])
    result = cache.candidates(rows, weights)
    assert result.shape == (2, 5, 20)
    expected = np.stack([cache.candidate(rows, row) for row in weights], axis=1)
    np.testing.assert_array_equal(result, expected)
    errors = result[:, :, :10].sum(axis=2)
    assert (errors <= [[7], [10]]).all()


def test_members_average_losses_over_their_own_classes():
    """Each one's mean loss by class, added up over classes, is the sum over its own samples."""
    model, data, cache = members()
    weights, rows = about(model, 5), [2, 0]
    found = cache.losses(np.array(rows), weights)
    for row, (means, counts) in zip(rows, found, strict=True):
        held = data.indices[row, : data.held[row]]
        losses = losses_each(model, weights, data.x[held], data.y[held], TASK)
        np.testing.assert_array_equal(counts, np.bincount(data.y[held], minlength=10))
        np.testing.assert_allclose(means @ counts, losses.sum(axis=1), rtol=1e-4)
