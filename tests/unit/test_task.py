"""A task of one's own: numbers are predicted, and trainer, evaluator and judge take it as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.worlds import TASK
from torch import nn

from fedjury import judges
from fedjury.agents.error_profile_cache import ErrorProfileCache
from fedjury.attacks.validators.invented import Inventor
from fedjury.learning.evaluation import answers_on, flaw_of, metric_of, predict
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.task import Task
from fedjury.learning.training import Training, train, train_alone, train_together
from fedjury.learning.weights import flatten

EDGES = np.array([-1.0, -0.5, -0.1, 0.1, 0.5, 1.0])
"""Between the kinds of errors of the regression below: how far off, and to which side."""

PLAN = Training(20, 5, 0.1, 0.5)


def line(name, input_shape, /, *, seed, purpose=None):
    """Build a network with one output, which is a number."""
    del name, purpose
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), 1))


def residuals(predictions, targets):
    """Count the samples in each range of how far off the predictions are."""
    kinds = np.digitize(np.asarray(predictions - targets).reshape(-1, len(targets)), EDGES)
    counts = np.stack([np.bincount(row, minlength=len(EDGES) + 1) for row in kinds])
    return counts.reshape(*predictions.shape[:-1], len(EDGES) + 1)


def rmse(predictions, targets):
    return float(np.sqrt(np.mean((predictions - targets) ** 2)))


REGRESSION = Task(
    build=line,
    loss=lambda outputs, y: F.mse_loss(outputs.squeeze(-1), y, reduction="none"),
    predict=lambda outputs: outputs.squeeze(-1),
    metrics={"rmse": rmse},
    profile=residuals,
    kinds=len(EDGES) + 1,
)


def measured():
    """Return four agents' twenty samples of y = x1 - 2 x2 + 1/2, and a network to learn it."""
    x = torch.rand(80, 1, 1, 2, generator=torch.Generator().manual_seed(1))
    y = x[:, 0, 0, 0] - 2 * x[:, 0, 0, 1] + 0.5
    model = REGRESSION.build("line", (1, 1, 2), seed=0)
    return model, Shards(x, y, torch.arange(80).reshape(4, 20))


def learnt(ways=train, rounds=8):
    """Train in rounds, each from the mean of the last; return all global models."""
    model, data = measured()
    models = [flatten(model)]
    for number in range(rounds):
        order = sample_order(0, number, range(4), PLAN.epochs, 20)
        models.append(
            models[-1] + ways(model, models[-1], data, PLAN, order, REGRESSION).mean(axis=0)
        )
    return models


def test_agents_learn_numbers_by_the_loss_of_their_task():
    """Agents trained on their own task come to the line that the data were made of."""
    found = learnt()[-1]
    np.testing.assert_allclose(found, [1, -2, 0.5], atol=0.01)


def test_a_loss_of_ones_own_is_trained_together_as_alone():
    """The batch takes the task's loss, though it knows the layers and has another written out."""
    together, alone = learnt(train_together, 2)[-1], learnt(train_alone, 2)[-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_unequal_agents_learn_by_the_loss_of_their_task():
    """Padding counts nothing in a loss of one's own either."""
    model, data = measured()
    data = data._replace(held=torch.tensor([20, 3, 11, 1]))
    order = sample_order(0, 0, range(4), PLAN.epochs, 20)
    ways = [
        way(model, flatten(model), data, PLAN, order, REGRESSION)
        for way in (train_together, train_alone)
    ]
    np.testing.assert_allclose(*ways, atol=1e-5)


def test_a_model_is_measured_by_the_first_metric_of_its_task():
    """What the record holds of a model is what the task calls its measure."""
    model, data = measured()
    measure = metric_of(answers_on(model, data.x, REGRESSION), data.y, REGRESSION)
    assert measure(np.array([1, -2, 0.5], np.float32)) == pytest.approx(0, abs=1e-6)
    assert measure(np.array([1, -2, 1.5], np.float32)) == pytest.approx(1)


def test_numbers_that_are_not_finite_are_no_answer():
    """A model that answers NaN is told of as one that gives no class is."""
    model, data = measured()
    flaw = flaw_of(answers_on(model, data.x, REGRESSION))
    assert flaw(np.array([1, -2, 0.5], np.float32)) == ""
    assert "80 of 80" in flaw(np.array([np.nan, 1, 1], np.float32))


def test_a_judge_finds_poison_by_the_profile_of_the_task():
    """Validators count the errors that the task names, and the judge compares these counts."""
    model, data = measured()
    history = learnt(rounds=12)[1:]
    cache = ErrorProfileCache(model, data, REGRESSION, "float32")
    everybody = np.arange(4)
    past = cache.history(everybody, range(11), dict(enumerate(history[:11])))
    judge = judges.build("lof", minimum_history=11)
    clean = cache.candidate(everybody, history[11])
    assert past.shape == (4, 11, 7)
    answers = predict(model, history[11], data.x[40:60], REGRESSION)
    np.testing.assert_array_equal(clean[2], residuals(answers, data.y[40:60].numpy()))
    poisoned = cache.candidate(everybody, history[10] + np.float32(0.8))
    assert not judge(past, clean).poisoned.any()
    assert judge(past, poisoned).poisoned.all()


@pytest.mark.parametrize("task", [TASK, REGRESSION], ids=["classes", "numbers"])
def test_agents_without_data_make_up_profiles_of_their_task(task):
    """Who has no data votes all the same, with as many kinds of errors as the others count."""
    found = Inventor(0, 20, task).history([1, 2], range(3))
    assert found.shape == (2, 3, task.kinds)
