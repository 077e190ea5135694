"""Losses, metrics and optimizers by name: ours, and those that somebody brings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedjury.learning import datasets, models
from fedjury.learning.losses import LOSSES
from fedjury.learning.metrics import METRICS
from fedjury.learning.optimizers import OPTIMIZERS, optimizer_of
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.task import task_of
from fedjury.learning.training import Training, train, train_alone
from fedjury.learning.weights import flatten, tensors


@pytest.mark.parametrize("name", LOSSES.own)
def test_a_loss_is_one_number_a_sample(name):
    """Of two outputs or of one, batched over agents or not, and it never is below 0."""
    own = LOSSES.build(name)
    labels = torch.tensor([0, 1, 1])
    outputs = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, -1.0]])
    alone = own(outputs, labels)
    assert alone.shape == (3,)
    assert (alone >= 0).all()
    assert alone[0] < alone[2]  # named rightly, against wrongly
    together = torch.func.vmap(own)(outputs.expand(2, 3, 2), labels.expand(2, 3))
    torch.testing.assert_close(together, alone.expand(2, 3))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("mse", {}, [4.0, 0.25]),
        ("l1", {}, [2.0, 0.5]),
        ("huber", {}, [1.5, 0.125]),  # 1 * (2 - 1/2); .25 / 2
        ("huber", {"delta": 2.0}, [2.0, 0.125]),  # 4 / 2
        ("bce", {}, [math.log1p(math.exp(-3)), math.log1p(math.exp(-0.5)) + 0.25]),
    ],
)
def test_losses_of_numbers_worked_by_hand(name, options, expected):
    """Outputs 3 and 0.5, targets 1 and 0 (of bce 0.5): as one column and as none."""
    targets = torch.tensor([1.0, 0.5 if name == "bce" else 0.0])
    own = LOSSES.build(name, options=options)
    for outputs in (torch.tensor([3.0, 0.5]), torch.tensor([[3.0], [0.5]])):
        np.testing.assert_allclose(own(outputs, targets), expected, rtol=1e-6)


def test_squares_of_classes_are_taken_of_each_output():
    """Outputs (0.5, 0.5, 0) of class 1: 0.25 + 0.25 + 0."""
    found = LOSSES.build("mse")(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([1]))
    np.testing.assert_allclose(found, [0.5])


@pytest.mark.parametrize(
    ("name", "predictions", "targets", "expected"),
    [
        ("accuracy", [0, 0, 1, -1], [0, 0, 1, 1], 3 / 4),
        ("balanced_accuracy", [0, 0, 0, 1, -1], [0, 0, 0, 1, 1], (1 + 1 / 2) / 2),
        # Class 0: 2 right of 3 said and 2 there; class 1: 0 of 0 and 1.
        ("f1", [0, 0, 0], [0, 0, 1], (4 / 5 + 0) / 2),
        ("rmse", [3.0, 0.0], [0.0, 4.0], 12.5**0.5),
        ("mae", [3.0, 0.0], [0.0, 4.0], 3.5),
        ("r2", [1.0, 3.0], [0.0, 4.0], 1 - 2 / 8),
    ],
)
def test_metrics_worked_by_hand(name, predictions, targets, expected):
    found = METRICS.build(name)(np.array(predictions), np.array(targets))
    assert found == pytest.approx(expected)


def test_every_metric_is_worked_by_hand_above():
    """Whoever adds one adds its numbers."""
    (marked,) = test_metrics_worked_by_hand.pytestmark
    assert {row[0] for row in marked.args[1]} == set(METRICS.own)


def test_equal_targets_have_no_r_squared():
    assert math.isnan(METRICS.build("r2")(np.array([1.0, 2.0]), np.array([1.0, 1.0])))


@pytest.mark.parametrize("name", [*OPTIMIZERS.own, "torch.optim:Adagrad", "torch.optim:RMSprop"])
def test_an_optimizer_goes_downhill(name):
    """Of (x - 3)^2 every one finds the bottom, ours and PyTorch's own by its place."""
    x = nn.Parameter(torch.tensor([0.0]))
    steps = optimizer_of(name, 0.1, 0.5, {})([x])
    for _ in range(300):
        steps.zero_grad()
        ((x - 3) ** 2).sum().backward()
        steps.step()
    assert abs(x.item() - 3) < 0.6


def test_momentum_is_for_those_that_have_it():
    """SGD is given the run's momentum, and AdamW, which has none, is not."""
    x = [nn.Parameter(torch.zeros(1))]
    assert optimizer_of("sgd", 0.1, 0.7, {})(x).param_groups[0]["momentum"] == 0.7
    made = optimizer_of("adamw", 0.1, 0.7, {"weight_decay": 0.2})(x).param_groups[0]
    assert (made["lr"], made["weight_decay"], made["betas"]) == (0.1, 0.2, (0.9, 0.999))


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("adm", {}, "did you mean 'adam'?"),
        ("adam", {"beta3": 0.5}, "did you mean 'beta"),
        ("adam", {"beta1": 1.5}, "beta1 of optimizer 'adam' must be float less than 1, not 1.5"),
    ],
)
def test_what_cannot_be_is_said(name, options, sentence):
    with pytest.raises(ValueError, match="optimizer") as caught:
        optimizer_of(name, 0.1, 0.5, options)
    assert sentence in str(caught.value)


def trained_with(plan, ways=train, **chosen):
    """Train three agents on digits; return their deltas."""
    data = datasets.load("digits", None, 500)
    task = task_of(data, **chosen)
    model = task.build("mlp", data.shape, seed=1)
    held = Shards(
        torch.from_numpy(data.x_train),
        torch.from_numpy(data.y_train),
        torch.arange(30).reshape(3, 10),
    )
    order = sample_order(0, 1, range(3), plan.epochs, 10)
    return ways(model, flatten(model), held, plan, order, task)


def test_agents_step_as_the_optimizer_of_the_run_does():
    """Adam's first step is the learning rate, up or down, for whatever has a gradient."""
    deltas = trained_with(Training(1, 10, 0.01, 0.0, "adam"))
    moved = np.abs(deltas[deltas != 0])
    assert np.quantile(moved, 0.2) == pytest.approx(0.01, rel=1e-3)
    assert moved.max() <= 0.01 + 1e-6
    decayed = trained_with(Training(1, 10, 0.1, 0.0, "sgd", {"weight_decay": 0.5}))
    plain = trained_with(Training(1, 10, 0.1, 0.0))
    model = models.build("mlp", (1, 8, 8), 10, seed=1)
    np.testing.assert_allclose(decayed, plain - 0.05 * flatten(model), atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES.own)
def test_agents_learn_by_any_loss_together_as_alone(loss):
    """The batch of all agents takes the loss that is chosen, and so does the plain loop."""
    if loss == "bce":
        pytest.skip("of ten classes there is none")
    plan = Training(2, 5, 0.05, 0.5)
    together, alone = (trained_with(plan, ways, loss=loss) for ways in (train, train_alone))
    np.testing.assert_allclose(together, alone, atol=2e-5)
    assert np.abs(together).max() > 1e-3


def test_only_what_is_to_be_trained_travels():
    """Of an mlp with its last layer to be trained, that is what the vector holds."""
    data = datasets.load("digits", None, 500)
    model = task_of(data, trainable=["3.*"]).build("mlp", data.shape, seed=1)
    assert [t.name for t in tensors(model)] == ["3.weight", "3.bias"]
    deltas = trained_with(Training(1, 5, 0.1, 0.5), trainable=["3.*"])
    assert deltas.shape == (3, 330)
    assert np.abs(deltas).max() > 0


def test_a_parameter_that_is_not_there_is_said():
    with pytest.raises(ValueError, match=r"unknown parameter in model.trainable: 'head.\*'"):
        models.build("mlp", (1, 8, 8), 10, seed=1, trainable=["head.*"])


def test_metrics_that_are_asked_for_come_after_the_tasks_own():
    data = datasets.load("digits", None, 500)
    assert list(task_of(data, metrics=["f1", "accuracy"]).metrics) == ["accuracy", "f1"]
    with pytest.raises(ValueError, match="unknown metric"):
        task_of(data, metrics=["f2"])


def test_one_output_tells_two_classes_apart():
    """Above 0 it is class 1; what is not finite is no class."""
    data = datasets.load("digits", None, 500)
    outputs = torch.tensor([[-0.5], [0.5], [float("nan")]])
    assert task_of(data).predict(outputs).tolist() == [0, 1, -1]
