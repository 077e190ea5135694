"""Fleets on data of the user's own: numbers to be predicted, words, files that lack a class."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from torch import nn

from fedjury.agents.assembly import simulated_agents_of
from fedjury.agents.batch_assembly import MismatchError, assemble
from fedjury.aggregator.assembly import build
from fedjury.learning import datasets
from fedjury.learning.evaluation import answers_on, metrics_of
from fedjury.learning.task import task_of

pytestmark = pytest.mark.usefixtures("one_thread")

JURY = {"validation__validators": 10, "validation__look_back": 3, "validation__warm_up": 2}


def table(path, count=600):
    """Write a table in which price = 50 + 20 pressure - 10 flow, give or take one."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(count, 2))
    price = 50 + x @ [20, -10] + rng.normal(size=count)
    lines = [f"{a:.5f},{b:.5f},{c:.4f}" for (a, b), c in zip(x, price, strict=True)]
    path.write_text("\n".join(["pressure,flow,price", *lines]))
    return {"data__name": str(path), "data__target": "price", "data__test": 100}


def measured(done):
    """Return the metrics of a federation's last model on what was held out."""
    data = datasets.chosen(done.settings.data)
    task = task_of(data)
    model = task.build(done.settings.model.name, data.shape, seed=1)
    x, y = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
    last = np.frombuffer(done.models[max(done.models)], np.float32)
    return metrics_of(answers_on(model, x, task), y, task)(last)


def test_a_fleet_learns_numbers_from_a_table_and_votes_on_them(tmp_path):
    """Prices that vary by 22 are predicted to about the noise of 1; no honest round is lost."""
    own = table(tmp_path / "prices.csv")
    plan = {"training__learning_rate": 0.002, "training__epochs": 3, "run__rounds": 12}
    done = Federation(tmp_path / "run", **JURY, **own, **plan).whole()
    assert [r.updates for r in done.records] == [20] * 12
    assert measured(done)["rmse"] < 3
    voters = done.records[-1].votes.voters
    assert len(voters) == 10
    assert sum(r.accepted for r in done.records) >= 11
    assert done.accuracies == [None] * 12  # there are no classes


def test_a_jury_of_numbers_rejects_a_poisoned_model(tmp_path):
    """Random updates a thousand times as long move predictions beyond all bins; all are noticed."""
    own = table(tmp_path / "prices.csv")
    plan = {"training__learning_rate": 0.002, "training__epochs": 3, "run__rounds": 10}
    attack = {"agents__malicious": 0.2, "agents__attack": "random", "agents__start": 7}
    jury = {**JURY, "validation__quorum": 5, "agents__scale": 100.0}
    done = Federation(tmp_path / "run", **jury, **own, **plan, **attack).whole()
    assert [bool(r.accepted) for r in done.records] == [True] * 6 + [False] * 4


def words(path):
    """Write sentences of 6 of 50 words, of class 1 if word 7 is in them."""
    rng = np.random.default_rng(3)
    parts = {}
    for part, count in zip(("train", "test"), (800, 200), strict=True):
        x = rng.integers(8, 50, size=(count, 6))
        y = rng.integers(2, size=count)
        x[y == 1, rng.integers(6, size=int(y.sum()))] = 7
        parts |= {f"x_{part}": x, f"y_{part}": y}
    np.savez(path, **parts)
    return str(path)


class Reader(nn.Module):
    """Words as vectors, whose mean says the class."""

    def __init__(self, shape, classes):
        super().__init__()
        torch.manual_seed(1)
        self.words = nn.Embedding(50, 8)
        self.head = nn.Linear(8 * shape[0], classes)

    def forward(self, x):
        """Take the ids (n, 6)."""
        return self.head(self.words(x).flatten(1))


class Listener(nn.Module):
    """Words through an LSTM."""

    def __init__(self, shape, classes):
        super().__init__()
        torch.manual_seed(1)
        self.words = nn.Embedding(50, 8)
        self.hears = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, classes)

    def forward(self, x):
        """Take the ids (n, 6)."""
        return self.head(self.hears(self.words(x))[0].mean(1))


@pytest.mark.parametrize("network", [Reader, Listener])
def test_a_fleet_learns_from_the_ids_of_words(tmp_path, network):
    """Whole numbers reach the embedding as such, batched over agents or one after the other."""
    done = Federation(
        tmp_path / "run",
        data__name=words(tmp_path / "words.npz"),
        model__name=f"{__name__}:{network.__name__}",
        training__optimizer="adam" if network is Listener else "sgd",
        training__learning_rate=0.01 if network is Listener else 0.5,
        training__epochs=5,
        run__rounds=10,
        validation__validators=0,
    ).whole()
    assert done.accuracies[-1] > 0.9


def test_a_model_that_cannot_take_the_data_is_a_sentence(tmp_path):
    """Before anything starts it is tried on two samples."""
    with pytest.raises(ValueError, match=r"model 'mlp' fails on inputs of \(6,\) int64: Runtime"):
        build(settings_of(data__name=words(tmp_path / "words.npz")))
    own = table(tmp_path / "prices.csv")
    with pytest.raises(ValueError, match="convolutions need images"):
        build(settings_of(**own, model__name="cnn"))
    with pytest.raises(ValueError, match=r"gives \(2, 3\) for 2 .*; to predict a number it must"):
        build(settings_of(**own, model__name=f"{__name__}:three"))
    flipping = settings_of(**own, agents__attack="label_flip", agents__malicious=0.2)
    with pytest.raises(ValueError, match="'label_flip' needs classes"):
        simulated_agents_of(flipping).check()


class Normed(Reader):
    """Words as vectors, with batch norm over them."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.norm = nn.BatchNorm1d(8 * shape[0])

    def forward(self, x):
        """Take the ids (n, 6)."""
        return self.head(self.norm(self.words(x).flatten(1)))


def test_batch_norm_over_words_never_sees_a_batch_of_one(tmp_path):
    """Eleven samples in batches of five leave one over, which is put to the batch before."""
    done = Federation(
        tmp_path / "run",
        data__name=words(tmp_path / "words.npz"),
        model__name=f"{__name__}:Normed",
        agents__samples=11,
        training__batch_size=5,
        run__rounds=1,
        validation__validators=0,
    ).whole()
    assert [r.updates for r in done.records] == [20]


def three(shape, classes):
    """Build a network with three outputs, whatever is wanted."""
    return nn.Linear(shape[0], 3)


def test_a_fleet_whose_file_lacks_the_last_class_takes_part(tmp_path):
    """The model of the run has an output for it; a file with a class too many is refused."""
    settings = settings_of()
    simulated, manifest = simulated_agents_of(settings), build(settings).manifest
    data = simulated.check()
    kept = data.y_train < 9
    fewer = dataclasses.replace(
        data, classes=9, x_train=data.x_train[kept], y_train=data.y_train[kept]
    )
    batch = assemble(simulated, fewer, range(20), manifest)
    batch.keep(0, np.zeros(manifest.parameters, np.float32))
    with pytest.raises(MismatchError, match=r"of 10 classes, data set 'digits' has .* of 11"):
        assemble(simulated, dataclasses.replace(data, classes=11), range(20), manifest)
