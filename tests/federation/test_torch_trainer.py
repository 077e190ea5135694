"""Devices that bring a model and data, and leave the loop to ``fedjury.TorchTrainer``."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fedjury
from fedjury.agents import join
from fedjury.aggregator.assembly import build
from fedjury.learning import weights
from fedjury.learning.datasets import load
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.memory_transport import MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

TURN = fedjury.Turn(1, 7, epochs=2, batch_size=8, learning_rate=0.1, momentum=0.5)

JURY = {"validation__validators": 3, "validation__quorum": 2, "validation__look_back": 2}


def federation(folder, trainers, said=None, **changes):
    """Run a federation of devices with these trainers to its end."""
    changes = {"collect__agents": len(trainers), "collect__seconds": 60} | changes
    run = Federation(folder, fleets=0, **changes)
    for number, trainer in enumerate(trainers):
        each = fedjury.Device(
            f"site-{number}",
            "memory:lab",
            run="lab",
            trainer=trainer,
            say=(said if said is not None else []).append,
        )
        runner = each.runner(MemoryTransport(run.broker, "lab"), clock=run.seconds)
        runner.join()
        run.fleets.append(runner)
    return run.whole()


def digits(number, count=100):
    """Return some of the digits, as arrays."""
    data = load("digits", None, 500)
    mine = slice(number * count, (number + 1) * count)
    return data.x_train[mine], data.y_train[mine]


class Norms(nn.Module):
    """A network with batch norm and dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        """Take digits (n, 1, 8, 8)."""
        return self.head(self.body(x))


def norms(_shape, _classes):
    """Build it for the aggregator."""
    return Norms()


def test_devices_with_batch_norm_and_dropout_learn_and_vote(tmp_path):
    """Model, loss, metric and votes come of data and model alone; batches of one are avoided."""
    trainers = [fedjury.TorchTrainer(Norms, digits(i, 97)) for i in range(3)]
    plan = {"training__batch_size": 7, "training__epochs": 4, "run__rounds": 8}
    model = {"model__name": f"{__name__}:norms", "aggregation__options": {"weighted": True}}
    done = federation(tmp_path, trainers, **JURY, **plan, **model, limits__samples=1000)
    assert [r.updates for r in done.records] == [3] * 8
    assert done.accuracies[-1] > 0.8
    assert len(done.records[-1].votes.voters) == 3


def prices(number, count=60):
    """Return noisy samples of y = 2 a - b, with targets as one column."""
    rng = np.random.default_rng(number)
    x = rng.normal(size=(count, 2))
    return x, (x @ [2, -1] + rng.normal(0, 0.1, count))[:, None]


def price_file(folder):
    """Write such samples for the aggregator."""
    x, y = prices(100, 300)
    np.savez(folder / "prices.npz", x=x, y=y)
    return {"data__name": str(folder / "prices.npz"), "data__test": 100}


def linear(_shape, _outputs):
    """Build a line."""
    torch.manual_seed(2)
    return nn.Linear(2, 1)


def test_devices_learn_numbers_judge_them_and_measure_them(tmp_path):
    """A regression from data to votes, and to rmse near the noise of a tenth."""
    own = price_file(tmp_path)
    model = {"model__name": f"{__name__}:linear", "training__learning_rate": 0.02}
    trainers = [fedjury.TorchTrainer(linear, prices(i)) for i in range(4)]
    jury = JURY | {"validation__validators": 4, "training__epochs": 4}
    done = federation(tmp_path / "run", trainers, **jury, **own, **model, run__rounds=8)
    assert [r.accepted for r in done.records] == [True] * 8
    last = np.frombuffer(done.models[8], np.float32)
    np.testing.assert_allclose(last, [2, -1, 0], atol=0.1)
    network = trainers[0].begin(build(settings_of(**own, **model)).manifest)
    weights.load(network, last)
    found = trainers[0].evaluate(network, TURN)
    assert found.samples == 12  # a fifth of sixty is held out
    assert 0.05 < found.values["rmse"] < 0.2
    assert set(found.values) == {"loss", "rmse", "mae"}
    assert found.values["loss"] == pytest.approx(found.values["rmse"] ** 2, rel=1e-4)


def test_poisoned_numbers_are_voted_down(tmp_path):
    """One of four devices sends nonsense; what comes of it is rejected."""
    own = price_file(tmp_path)
    model = {"model__name": f"{__name__}:linear", "training__learning_rate": 0.02}
    trainers = [fedjury.TorchTrainer(linear, prices(i)) for i in range(4)]

    class Nonsense(fedjury.TorchTrainer):
        def train(self, model, turn):
            """Train well for six rounds, and then turn the line round."""
            if turn.round <= 6:
                return super().train(model, turn)
            with torch.no_grad():
                model.weight.mul_(-30)
            return fedjury.Trained(samples=48)

    trainers[3] = Nonsense(linear, prices(3))
    jury = JURY | {"validation__validators": 4, "validation__quorum": 2}
    done = federation(tmp_path / "run", trainers, **jury, **own, **model, run__rounds=8)
    assert [bool(r.accepted) for r in done.records] == [True] * 6 + [False] * 2


class Squares(Dataset):
    """A data set of PyTorch's kind: ids of words, and whether the first is even."""

    def __len__(self):
        return 90

    def __getitem__(self, place):
        words = torch.tensor([place % 10, (place * 7) % 10, (place * 3) % 10])
        return words, int(words[0] % 2)


class Recurrent(nn.Module):
    """Words through an embedding and an LSTM."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.words, self.hears = nn.Embedding(10, 6), nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, x):
        """Take ids (n, 3)."""
        return self.head(self.hears(self.words(x))[0].flatten(1))


@pytest.mark.parametrize("wrapped", [False, True], ids=["dataset", "loader"])
def test_sequences_are_learnt_from_pytorchs_own_data_sets(wrapped):
    """Datasets and loaders serve as they are; a loader's batch size and collation are kept."""
    sizes = []

    def collate(samples):
        sizes.append(len(samples))
        return torch.utils.data.default_collate(samples)

    data = DataLoader(Squares(), batch_size=9, collate_fn=collate) if wrapped else Squares()
    trainer = fedjury.TorchTrainer(Recurrent, data, optimizer="adam", learning_rate=0.02, epochs=30)
    model = Recurrent()
    trained = trainer.train(model, TURN)
    assert (trained.samples, trained.metrics["loss"] < 0.1) == (72, True)
    found = trainer.evaluate(model, TURN)
    assert (found.samples, found.values["accuracy"]) == (18, 1.0)
    if wrapped:
        assert set(sizes[:-1]) == {9}


@pytest.mark.parametrize(
    "optimizer",
    [
        None,
        "adamw",
        torch.optim.RMSprop,
        lambda parameters, rate: torch.optim.SGD(parameters, rate, nesterov=True, momentum=0.9),
    ],
    ids=["run", "name", "class", "function"],
)
@pytest.mark.parametrize("loss", [None, "huber", nn.SmoothL1Loss, nn.functional.mse_loss])
def test_losses_and_optimizers_of_any_kind(optimizer, loss):
    """Names, classes and functions; PyTorch's losses, too, which spread a column by themselves."""
    trainer = fedjury.TorchTrainer(
        linear, prices(1), loss=loss, optimizer=optimizer, learning_rate=0.02, epochs=40
    )
    model = linear((2,), 1)
    trainer.train(model, TURN)
    np.testing.assert_allclose(model.weight.detach(), [[2, -1]], atol=0.15)


def test_the_runs_loss_optimizer_and_plan_are_taken_unless_given():
    """Loss, optimizer, steps and rate are those of the turn; a schedule changes the rate."""
    x, y = prices(1, 10)
    turn = dataclasses.replace(
        TURN, epochs=1, batch_size=100, optimizer="adam", loss="l1", optimizer_options={"eps": 1e-3}
    )
    for schedule, step in ((None, 0.1), (lambda number: 1 / (1 + number), 0.05)):
        model = linear((2,), 1)
        before = model.weight.detach().clone()
        fedjury.TorchTrainer(linear, (x, y), schedule=schedule).train(model, turn)
        np.testing.assert_allclose((model.weight.detach() - before).abs(), step, rtol=0.02)


def test_the_same_turn_makes_the_same_model():
    """The order of the samples comes from the turn's seed, and from nothing else."""
    found = []
    for seed in (7, 7, 8):
        model = linear((2,), 1)
        torch.manual_seed(len(found))
        fedjury.TorchTrainer(linear, prices(1)).train(model, dataclasses.replace(TURN, seed=seed))
        found.append(model.weight.detach().numpy().copy())
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_validation_data_of_ones_own_are_measured_with():
    """Then all samples are trained on; and without any held out, measured with."""
    trainer = fedjury.TorchTrainer(linear, prices(1, 20), validation=prices(2, 5))
    assert trainer.train(linear((2,), 1), TURN).samples == 20
    assert trainer.evaluate(linear((2,), 1), TURN).samples == 5
    everything = fedjury.TorchTrainer(linear, prices(1, 20), validation=0)
    assert everything.train(linear((2,), 1), TURN).samples == 20
    assert everything.evaluate(linear((2,), 1), TURN).samples == 20


def test_a_model_that_answers_nan_is_measured_by_what_is_finite():
    """What cannot be sent as a number is left out; the predictions say how bad it is."""
    model = linear((2,), 1)
    with torch.no_grad():
        model.weight.fill_(float("nan"))
    found = fedjury.TorchTrainer(linear, prices(1, 20)).evaluate(model, TURN)
    assert found.values == {}
    assert np.isnan(found.predictions).all()


def test_without_samples_a_device_sits_out(tmp_path):
    """An empty file is no error: the round goes on with the others."""
    empty = fedjury.TorchTrainer(None, (np.zeros((0, 64)), np.zeros(0, int)))
    trainers = [empty, fedjury.TorchTrainer(None, digits(1))]
    done = federation(tmp_path, trainers, validation__validators=0, run__rounds=2)
    assert [r.updates for r in done.records] == [1, 1]


def test_whole_numbers_are_numbers_where_the_run_says_so(tmp_path):
    """A device whose prices happen to be whole learns them as the others do."""
    x, _ = prices(1)
    manifest = build(settings_of(**price_file(tmp_path), model__name=f"{__name__}:linear")).manifest
    trainer = fedjury.TorchTrainer(linear, (x, np.arange(60)))
    model = trainer.begin(manifest)
    assert "rmse" in trainer.evaluate(model, TURN).values


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [
        (None, prices(1), "tells 10 classes apart, and these targets are numbers"),
        (None, (np.zeros((2, 1, 8, 8)), [0, 10]), "and class 10 is among these targets"),
        ("cnn", (np.zeros((2, 4)), [0, 1]), "model 'cnn' cannot take inputs of"),
        (lambda: 7, (np.zeros((2, 4)), [0, 1]), "made a int, not a torch.nn.Module"),
        (lambda a, b, c: 7, (np.zeros((2, 4)), [0, 1]), "cannot be made: TypeError"),
    ],
)
def test_what_does_not_fit_the_run_is_a_sentence(model, data, sentence):
    """The device says it, and waits for a run that fits."""
    device = fedjury.Device(
        "site", "memory:lab", run="lab", trainer=fedjury.TorchTrainer(model, data)
    )
    with pytest.raises(TransportError) as caught:
        device.batch(build(settings_of()).manifest)
    assert str(caught.value).startswith("run 'lab': ")
    assert sentence in str(caught.value)


def test_a_foreign_model_is_not_imported_because_the_run_names_it():
    """Without a model of its own a device takes the run's, if it is one of ours."""
    manifest = build(settings_of(model__name=f"{__name__}:norms")).manifest
    trainer = fedjury.TorchTrainer(None, digits(0))
    with pytest.raises(ValueError, match="is not imported because a message names it"):
        trainer.begin(manifest)
    for said in ({"loss": "os:system"}, {"optimizer": "os:system"}):
        foreign = dataclasses.replace(build(settings_of()).manifest, **said)
        with pytest.raises(ValueError, match="is not imported because a message names it"):
            trainer.begin(foreign)
        given = fedjury.TorchTrainer(None, digits(0), loss="cross_entropy", optimizer="sgd")
        assert given.begin(foreign)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"loss": "hinge"}, "unknown loss: 'hinge'"),
        ({"optimizer": "adan"}, "did you mean 'adam'"),
        ({"epochs": 0}, "epochs must be 1 or more"),
        ({"batch_size": -1}, "batch_size must be 1 or more"),
        ({"learning_rate": float("inf")}, "learning_rate must be 0 or more and finite"),
        ({"validation": 1.0}, "validation must be from 0 to below 1"),
        ({"data": (np.zeros((3, 2)), np.zeros(2))}, "there are 3 inputs and 2 targets"),
        ({"metrics": ["auc"]}, "unknown metric: 'auc'"),
    ],
)
def test_what_cannot_be_is_said_at_once(given, sentence):
    with pytest.raises(ValueError) as caught:
        fedjury.TorchTrainer(**{"model": linear, "data": prices(1)} | given)
    assert sentence in str(caught.value)


def test_data_that_are_none_and_a_model_beside_a_trainer_are_refused():
    with pytest.raises(TypeError, match="data are a pair"):
        fedjury.TorchTrainer(linear, iter([]))
    trainer = fedjury.TorchTrainer(linear, TensorDataset(torch.zeros(2, 2), torch.zeros(2)))
    with pytest.raises(TypeError, match="a trainer has its own model"):
        fedjury.Device("site", model=linear((2,), 1), trainer=trainer)


def test_what_devices_measure_of_numbers_is_in_the_records(tmp_path):
    """Federated evaluation: loss, rmse and mae of the trainers, weighted by samples."""
    own = price_file(tmp_path)
    model = {"model__name": f"{__name__}:linear", "training__learning_rate": 0.02}
    plan = {"training__epochs": 4, "run__rounds": 6, "validation__validators": 0}
    trainers = [fedjury.TorchTrainer(linear, prices(i)) for i in range(3)]
    done = federation(tmp_path / "run", trainers, **own, **model, **plan, evaluation__fraction=1.0)
    measured = [record.model.metrics for record in done.records]
    assert set(measured[0]) >= {"loss", "rmse", "mae"}
    assert measured[-1]["rmse"] < measured[0]["rmse"] / 2
    assert done.accuracies == [None] * 6


class Pretrained(nn.Module):
    """A backbone that somebody has trained before, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU())
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        """Return the logits of images."""
        return self.head(self.body(x))


def joined(folder, number, *more):
    """Return the trainer of ``fedjury join`` on a file of its own, with these flags."""
    data = load("digits", None, 500)
    x, y = data.x_train[number::9], data.y_train[number::9]
    file = folder / f"{number}.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    flags = ["--data", str(file), "--model", f"{__name__}:Pretrained", *more]
    chosen = join.parser_of("join").parse_args(flags)
    return join.trainer_of(chosen, join.held_by(chosen))


def test_a_device_that_joins_trains_and_sends_the_parameters_that_are_named(tmp_path):
    """Of 3,610 parameters the head's 490 travel, and learn; the run says so in model.trainable."""
    more = {"model__name": f"{__name__}:Pretrained", "model__trainable": ["head.*"]}
    trainers = [joined(tmp_path, n, "--trainable", "head.*") for n in range(3)]
    done = federation(tmp_path / "run", trainers, run__rounds=3, training__epochs=10, **more)
    assert [r.updates for r in done.records] == [3] * 3
    assert len(done.models[3]) == 4 * 490
    assert done.accuracies[-1] > 0.6


def test_a_device_that_trains_all_of_it_does_not_fit_such_a_run(tmp_path):
    """Without the flag the first tensor that differs is named; a name that is none, too."""
    settings = settings_of(model__name=f"{__name__}:Pretrained", model__trainable=["head.*"])
    manifest = build(settings).manifest

    def device(*more):
        return fedjury.Device("site-a", run="lab", trainer=joined(tmp_path, 0, *more), say=print)

    with pytest.raises(TransportError, match=r"trains another model: .*body\.1\.weight"):
        device().batch(manifest)
    with pytest.raises(TransportError, match=r"unknown parameter in trainable: 'heads\.\*'"):
        device("--trainable", "heads.*").batch(manifest)
    with pytest.raises(ValueError, match="unknown parameter in trainable: 'tail'"):
        fedjury.TorchTrainer(Pretrained(), digits(0), trainable="tail")
