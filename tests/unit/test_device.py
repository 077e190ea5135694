"""Models are trained and evaluated where they lie, and CUDA is taken only where it is asked for."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.federation import settings_of
from support.worlds import TASK

from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.work import work
from fedjury.aggregator.assembly import build
from fedjury.config.settings import SettingsError
from fedjury.federation.run import check
from fedjury.learning import models
from fedjury.learning.device import device_named, device_of
from fedjury.learning.evaluation import predict
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.task import cross_entropy
from fedjury.learning.training import Training, train_alone, train_together
from fedjury.learning.weights import flatten

NOT_HERE = "copy out of meta tensor"
"""What PyTorch says of a result that was computed on its device without memory."""

OTHER_LOSS = replace(TASK, loss=lambda outputs, y: 2 * cross_entropy(outputs, y))
"""A loss that nobody has written out."""


@pytest.mark.parametrize(
    ("name", "there", "kind"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda"), ("cpu", True, "cpu")],
)
def test_auto_takes_cuda_where_it_is(name, there, kind, monkeypatch):
    """CUDA is taken where it is asked for or, with auto, where there is any."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert device_named(name).type == kind


def test_nobody_looks_for_a_gpu_that_is_not_asked_for(monkeypatch):
    """To look for CUDA takes time, and memory that each process has for itself."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("looked"))
    assert device_named("cpu").type == "cpu"


@pytest.mark.parametrize("start", [check, build], ids=["before all starts", "aggregator"])
def test_cuda_that_is_not_there_is_one_sentence(start, monkeypatch):
    """Who asks for CUDA without having it is told so, and what to do, before anything starts."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"finds no CUDA device here.*--device cpu"):
        start(settings_of(run__device="cuda"))


def test_other_devices_are_refused():
    """There are three words for a device."""
    with pytest.raises(SettingsError, match=r"run\.device = 'tpu' must be auto or cpu or cuda"):
        settings_of(run__device="tpu")


def elsewhere(name):
    """Return a network on a device that is not the processor, and its weights."""
    model = models.build(name, (1, 28, 28), 10, seed=0)
    weights = flatten(model)
    return model.to("meta"), weights


def data(held=None):
    return Shards(
        torch.rand(12, 1, 28, 28), torch.arange(12) % 10, torch.arange(12).view(3, 4), held
    )


@pytest.mark.parametrize(
    ("way", "task", "held"),
    [
        (train_together, TASK, None),
        (train_together, TASK, torch.tensor([4, 1, 3])),
        (train_together, OTHER_LOSS, None),
        (train_alone, TASK, None),
    ],
    ids=["written out", "unequal", "vmap", "plain loop"],
)
@pytest.mark.filterwarnings("ignore:.*non-meta parameter")
def test_training_is_done_where_the_model_lies(way, task, held):
    """All that is multiplied lies on the model's device; only the result is fetched from it."""
    model, weights = elsewhere("mlp")
    assert device_of(model).type == "meta"
    order = sample_order(0, 0, range(3), 2, 4)
    with pytest.raises(NotImplementedError, match=NOT_HERE):
        way(model, weights, data(held), Training(2, 2, 0.1, 0.5), order, task)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.filterwarnings("ignore:.*non-meta parameter")
def test_evaluation_is_done_where_the_model_lies(name):
    """A model answers on its device; only the answers are fetched from it."""
    model, weights = elsewhere(name)
    with pytest.raises(NotImplementedError, match=NOT_HERE):
        predict(model, weights, data().x, TASK)


def test_what_agents_do_can_be_sent_to_a_process_that_was_not_forked():
    """Processes that use a GPU are spawned: what they are to do is pickled, whole."""
    settings = settings_of()
    simulated = simulated_agents_of(settings)
    there = pickle.loads(pickle.dumps(partial(work, settings, simulated, simulated.check())))
    assert there.args[:2] == (settings, simulated)
    np.testing.assert_array_equal(there.args[2].x_test, simulated.check().x_test)
