"""Networks, their vectors, training in one batch, evaluation, and the classifier alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.worlds import TASK
from torch import nn

from fedjury.learning import classifier, models, training
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.evaluation import answers_on, flaw_of, metric_of, predict
from fedjury.learning.models import has_batch_norm
from fedjury.learning.shards import Shards, batches, sample_order
from fedjury.learning.task import NO_CLASS
from fedjury.learning.training import Training, train, train_alone, train_together
from fedjury.learning.weights import flatten, load, tensors, unflatten, variances

MNIST = (1, 28, 28)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small networks are slower on many threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SHAPES = {
    "classifier": [MNIST, (3, 32, 32), (1, 20, 24)],
    "lenet": [MNIST, (3, 32, 32), (1, 20, 24)],
    "cnn": [MNIST, (3, 20, 16)],
    "mlp": [(1, 8, 8), (3, 5, 4)],
    "resnet18": [(3, 8, 8)],
}


def shards(shape, members=3, samples=5, classes=4, seed=0):
    """Deal random images to members, each its own."""
    rng = np.random.default_rng(seed)
    count = members * samples
    return Shards(
        torch.from_numpy(rng.random((count, *shape), dtype=np.float32)),
        torch.from_numpy(rng.integers(0, classes, count)),
        torch.from_numpy(rng.permutation(count).reshape(members, samples)),
    )


def visits(members, epochs, samples, seed=0):
    return sample_order(seed, 0, range(members), epochs, samples)


# Models


def test_every_model_is_tried_here():
    """A model that is added to the table needs its shapes above."""
    assert SHAPES.keys() == models.MODELS.keys()


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        # conv 25+1, conv 25+1, 16*120+120, 120*84+84, 84*10+10
        ("classifier", MNIST, 26 + 26 + 2040 + 10164 + 850),
        # conv 6*25+6, conv 16*150+16, 256*120+120, 120*84+84, 84*10+10
        ("lenet", MNIST, 156 + 2416 + 30840 + 10164 + 850),
        # conv 30*9+30, conv 50*270+50, 1250*100+100, 100*10+10
        ("cnn", MNIST, 300 + 13550 + 125100 + 1010),
        ("mlp", (1, 8, 8), 64 * 32 + 32 + 320 + 10),
    ],
)
def test_parameters_by_hand(name, shape, parameters):
    """The networks are as large as their layers add up to."""
    assert len(flatten(models.build(name, shape, 10, seed=0))) == parameters


def test_the_papers_sizes():
    """13,106 for the user's classifier, 44,426 for LeNet-5, 139,960 for PoisonedFL's CNN."""
    sizes = [len(flatten(models.build(n, MNIST, 10, 0))) for n in ("classifier", "lenet", "cnn")]
    assert sizes == [13_106, 44_426, 139_960]


def test_the_narrow_resnet_has_2_8_million_parameters():
    """On CIFAR-10's shape; its vector holds the batch norms' running statistics as well."""
    model = models.build("resnet18", (3, 32, 32), 10, seed=0)
    trained = sum(p.numel() for p in model.parameters())
    assert 2.75e6 < trained < 2.85e6
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(flatten(model)) == trained + sum(2 * m.num_features for m in norms)


@pytest.mark.parametrize("name", models.MODELS)
def test_models_depend_on_the_seed_alone(name):
    """The same seed gives the same bits, another one others, and torch's own state is left."""
    shape = SHAPES[name][0]
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    first = flatten(models.build(name, shape, 4, seed=1))
    torch.testing.assert_close(torch.rand(3), untouched, rtol=0, atol=0)
    assert first.tobytes() == flatten(models.build(name, shape, 4, seed=1)).tobytes()
    assert not np.array_equal(first, flatten(models.build(name, shape, 4, seed=2)))


@pytest.mark.parametrize("name", models.MODELS)
def test_models_answer_every_class(name):
    """A batch of inputs gives a logit for each class, and the biases begin at zero."""
    for shape in SHAPES[name]:
        model = models.build(name, shape, 7, seed=0)
        assert model(torch.rand(2, *shape)).shape == (2, 7)
        assert not model.training
        linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
        assert all((m.bias == 0).all() for m in linear)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 8), (3, 15, 15), (1, 1, 1)])
def test_an_input_too_small_is_explained(shape):
    """A network with more convolutions than pixels says so, and what would do."""
    with pytest.raises(ValueError, match=r"'classifier' cannot take inputs of \(.*try model 'mlp'"):
        models.build("classifier", shape, 10, seed=0)
    assert models.build("mlp", shape, 10, seed=0)(torch.rand(1, *shape)).shape == (1, 10)


def test_the_smallest_input_that_fits():
    """16 pixels a side leave one after two 5x5 convolutions and two poolings."""
    assert models.build("classifier", (1, 16, 16), 2, 0)(torch.rand(1, 1, 16, 16)).shape == (1, 2)


def test_a_misspelt_model_is_explained():
    """The nearest name is offered."""
    with pytest.raises(ValueError, match="unknown model: 'lenett'; did you mean 'lenet'"):
        models.build("lenett", MNIST, 10, seed=0)


# Vectors


@pytest.mark.parametrize("name", models.MODELS)
def test_a_vector_goes_in_and_comes_out(name):
    """Every element of a vector lands in the model and comes back, batch-norm buffers too."""
    model = models.build(name, SHAPES[name][0], 4, seed=0)
    size = sum(t.size for t in tensors(model))
    vector = np.arange(size, dtype=np.float32) / 8
    vector.setflags(write=False)
    load(model, vector)
    np.testing.assert_array_equal(flatten(model), vector)
    buffers = [b for k, b in model.named_buffers() if k.endswith("running_var")]
    assert bool(buffers) == has_batch_norm(model)
    assert all((buffer != 1).any() for buffer in buffers)


def test_a_vector_is_cut_in_the_order_of_the_state_dict():
    """Two vectors of a linear layer 2 -> 1: two weights, then the bias, for each row."""
    layer = nn.Linear(2, 1)
    named = unflatten(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), tensors(layer))
    assert [(k, v.tolist()) for k, v in named.items()] == [
        ("weight", [[[1, 2]], [[4, 5]]]),
        ("bias", [[3], [6]]),
    ]
    load(layer, np.array([1, 2, 3], dtype=np.float32))
    assert layer(torch.tensor([[10.0, 100.0]])).item() == 213


def test_a_flat_vector_is_a_copy():
    """Writing into it leaves the model alone."""
    layer = nn.Linear(2, 1)
    vector = flatten(layer)
    vector += 1
    assert not np.array_equal(flatten(layer), vector)


@pytest.mark.parametrize("shape", [(2,), (4,), (1, 3), ()])
def test_a_vector_of_the_wrong_length_is_refused(shape):
    """The message gives both sizes."""
    with pytest.raises(ValueError, match="the model has 3 parameters, the vector has shape"):
        load(nn.Linear(2, 1), np.zeros(shape, dtype=np.float32))


# Training


def test_one_step_by_hand():
    """From zeros, two classes: softmax is (1/2, 1/2), the gradient (p - onehot) x, rate 1.

    Member 0 has x = 3 of class 0: weights move by (1.5, -1.5), biases by (1/2, -1/2).
    Member 1 has x = -1 of class 1: weights by (1/2, -1/2), biases by (-1/2, 1/2).
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    data = Shards(
        torch.tensor([-1.0, 3.0]).reshape(2, 1, 1, 1),
        torch.tensor([1, 0]),
        torch.tensor([[1], [0]]),
    )
    plan = Training(epochs=1, batch_size=4, learning_rate=1.0, momentum=0.0)
    deltas = train_together(model, np.zeros(4, dtype=np.float32), data, plan, visits(2, 1, 1), TASK)
    np.testing.assert_allclose(deltas, [[1.5, -1.5, 0.5, -0.5], [0.5, -0.5, -0.5, 0.5]])


PLANS = [
    Training(epochs=1, batch_size=5, learning_rate=0.1, momentum=0.0),
    Training(epochs=3, batch_size=2, learning_rate=0.05, momentum=0.9),
]
"""One full batch, and three epochs whose last batch has one sample of two."""


@pytest.mark.parametrize("plan", PLANS, ids=["one batch", "short batches, momentum"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name, shapes in SHAPES.items() for shape in shapes if name != "resnet18"],
    ids=str,
)
def test_training_together_is_training_alone(name, shape, plan):
    """One batch of members gives each what torch's own SGD gives it alone, to rounding."""
    model = models.build(name, shape, 4, seed=0)
    weights, data = flatten(model), shards(shape)
    order = visits(3, plan.epochs, 5)
    together = train_together(model, weights, data, plan, order, TASK)
    alone = train_alone(model, weights, data, plan, order, TASK)
    assert together.shape == alone.shape == (3, len(weights))
    assert together.dtype == alone.dtype == np.float32
    assert np.abs(alone).max(axis=1).min() > 1e-3
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=2e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_members_with_batch_norm_train_one_by_one(monkeypatch):
    """A ResNet's deltas are those of training alone, its running statistics among them."""
    model = models.build("resnet18", (3, 8, 8), 4, seed=0)
    assert has_batch_norm(model)
    weights, data = flatten(model), shards((3, 8, 8), members=2, samples=2)
    monkeypatch.setattr("fedjury.learning.training.train_together", None)
    deltas = train(model, weights, data, Training(1, 2, 0.1, 0.0), visits(2, 1, 2), TASK)
    named = unflatten(torch.from_numpy(deltas), tensors(model))
    moved = [v for k, v in named.items() if "running_mean" in k]
    assert all((v != 0).any() for v in moved)
    assert not np.array_equal(deltas[0], deltas[1])
    assert not model.training


def test_members_without_batch_norm_train_in_one_batch(monkeypatch):
    """The slow loop is left to networks that need it."""
    model = models.build("mlp", (1, 8, 8), 4, seed=0)
    monkeypatch.setattr("fedjury.learning.training.train_alone", None)
    deltas = train(model, flatten(model), shards((1, 8, 8)), PLANS[0], visits(3, 1, 5), TASK)
    assert deltas.shape == (3, len(flatten(model)))


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_training_leaves_its_inputs_alone(name):
    """Weights that arrived read-only are trained from, and neither they nor the data change."""
    shape = (1, 8, 8) if name == "mlp" else (3, 8, 8)
    model = models.build(name, shape, 4, seed=0)
    weights, data = flatten(model), shards(shape, samples=2)
    before = weights.copy()
    weights.setflags(write=False)
    images, labels, indices = (part.clone() for part in data[:3])
    order = visits(3, 1, 2)
    first = train(model, weights, data, Training(1, 2, 0.1, 0.0), order, TASK)
    second = train(model, weights, data, Training(1, 2, 0.1, 0.0), order, TASK)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(weights, before)
    for now, then in zip(data[:3], (images, labels, indices), strict=True):
        assert torch.equal(now, then)


def test_members_see_their_own_samples_in_their_own_order():
    """Each member's delta is what it gets with its own row of data and order, and no other's."""
    model = models.build("mlp", (1, 8, 8), 4, seed=0)
    weights, data, plan = flatten(model), shards((1, 8, 8)), PLANS[1]
    order = visits(3, plan.epochs, 5)
    together = train(model, weights, data, plan, order, TASK)
    for i in range(3):
        own = data._replace(indices=data.indices[i : i + 1])
        alone = train(model, weights, own, plan, order[i : i + 1], TASK)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4, atol=1e-6)
    swapped = train(model, weights, data, plan, order[::-1].copy(), TASK)
    assert np.abs(swapped - together).max() > 1e-4


def test_visiting_orders_are_permutations():
    """Every epoch of every member visits each sample once, each in an order of its own."""
    drawn = visits(3, 4, 6)
    assert drawn.shape == (3, 4, 6)
    np.testing.assert_array_equal(np.sort(drawn, axis=2), np.broadcast_to(np.arange(6), (3, 4, 6)))
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0, 0], drawn[0, 1])


def test_training_from_what_is_no_number_gives_no_number():
    """From a model of NaN members send NaN, without an error or a warning."""
    for name, shape in (("mlp", (1, 8, 8)), ("resnet18", (3, 8, 8))):
        model = models.build(name, shape, 4, seed=0)
        weights = np.full(len(flatten(model)), np.nan, dtype=np.float32)
        data = shards(shape, members=1, samples=2)
        deltas = train(model, weights, data, Training(1, 2, 0.1, 0.5), visits(1, 1, 2), TASK)
        assert np.isnan(deltas).all()


def test_a_last_batch_of_one_is_put_to_the_one_before():
    """Five samples in batches of two: two and three, where one would be too few."""
    order = torch.arange(10).reshape(2, 5)
    assert [part.tolist() for part in batches(order, 2, least=2)] == [
        [[0, 1], [5, 6]],
        [[2, 3, 4], [7, 8, 9]],
    ]
    assert [part.shape[1] for part in batches(order, 2)] == [2, 2, 1]
    assert [part.shape[1] for part in batches(order, 3, least=2)] == [3, 2]
    assert [part.shape[1] for part in batches(order, 9, least=2)] == [5]


@pytest.mark.parametrize(
    ("name", "shape", "least"),
    [("resnet18", (3, 8, 8), 2), ("resnet18", (3, 9, 9), 1), ("mlp", (1, 1, 1), 1)],
)
def test_batch_norm_on_single_pixels_needs_two_samples(name, shape, least):
    """Images of 8x8 end as one pixel in resnet18, those of 9x9 as four."""
    model = models.build(name, shape, 4, seed=0)
    weights = flatten(model)
    assert training.fewest(model, shape) == least
    np.testing.assert_array_equal(flatten(model), weights)


def test_training_with_a_last_batch_of_one_goes_well():
    """Three samples in batches of two, and single pixels in front of batch norm."""
    model = models.build("resnet18", (1, 8, 8), 4, seed=0)
    data = shards((1, 8, 8), members=1, samples=3)
    deltas = train(model, flatten(model), data, Training(1, 2, 0.1, 0.0), visits(1, 1, 3), TASK)
    assert np.isfinite(deltas).all()
    with pytest.raises(
        ValueError, match=r"learns nothing from a batch of one: batch size .it is 1"
    ):
        train(model, flatten(model), data, Training(1, 1, 0.1, 0.0), visits(1, 1, 3), TASK)


# Evaluation


def test_a_model_of_nan_is_never_right():
    """It has no class for any sample, though two of the five are of class 0."""
    model = models.build("mlp", (1, 8, 8), 10, seed=0)
    nothing = np.full(len(flatten(model)), np.nan, dtype=np.float32)
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 3, 0, 9, 1])
    np.testing.assert_array_equal(predict(model, nothing, x, TASK), np.full(5, NO_CLASS))
    assert metric_of(answers_on(model, x, TASK), y, TASK)(nothing) == 0


def test_accuracy_by_hand(monkeypatch):
    """Class 1 if x > 0: right on 3 of 4; and no difference in batches of three."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    weights = np.array([-1, 1, 0, 0], dtype=np.float32)
    x = torch.tensor([-2.0, -1.0, 1.0, 2.0]).reshape(4, 1, 1, 1)
    measure = metric_of(answers_on(model, x, TASK), torch.tensor([0, 1, 1, 1]), TASK)
    assert measure(weights) == 3 / 4
    monkeypatch.setattr("fedjury.learning.evaluation.BATCH", 3)
    assert measure(weights) == 3 / 4
    np.testing.assert_array_equal(predict(model, weights, x, TASK), [0, 0, 1, 1])


def test_outputs_that_are_not_finite_are_no_class():
    """x, -x for the classes 0 and 1: a product beyond float32 is infinite, 3.5 of -x is not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    x = torch.tensor([-1e30, -3.5, 0.5, 1e30]).reshape(4, 1, 1, 1)
    huge, plain = (np.array([w, -w, 0, 0], dtype=np.float32) for w in (1e10, 1))
    np.testing.assert_array_equal(predict(model, huge, x, TASK), [NO_CLASS, 1, 0, NO_CLASS])
    flaw = flaw_of(answers_on(model, x, TASK))
    assert flaw(huge) == "its outputs on 2 of 4 held-out samples are not finite"
    assert flaw(plain) == ""


@pytest.mark.parametrize("variance", [-0.5, np.nan])
def test_a_variance_that_cannot_be_gives_no_class(variance):
    """Batch norm takes the root of its running variance: below zero there is none."""
    model = models.build("resnet18", (3, 8, 8), 4, seed=0)
    weights = flatten(model)
    weights[variances(model)] = variance
    assert set(predict(model, weights, torch.rand(3, 3, 8, 8), TASK)) == {NO_CLASS}


def test_answers_are_not_computed_twice(monkeypatch):
    """The same array is looked at once; another with the same numbers is another model."""
    model = models.build("mlp", (1, 8, 8), 4, seed=0)
    weights, looked = flatten(model), []
    monkeypatch.setattr(
        "fedjury.learning.evaluation.predict", lambda *_: looked.append(1) or np.zeros(2)
    )
    answers = answers_on(model, torch.rand(2, 1, 8, 8), TASK)
    for asked in (weights, weights, weights.copy(), weights):
        answers(asked)
    assert len(looked) == 2


def test_evaluation_does_not_train():
    """A network with batch norm measures twice the same, and its vector stays."""
    model = models.build("resnet18", (3, 8, 8), 4, seed=0)
    weights = flatten(model)
    model.train()
    x = torch.rand(6, 3, 8, 8)
    first = predict(model, weights, x, TASK)
    np.testing.assert_array_equal(predict(model, weights, x, TASK), first)
    np.testing.assert_array_equal(flatten(model), weights)


# The classifier alone


def two_stripes(count=40):
    """Make images whose upper half is bright for class 0 and whose lower half is for class 1."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    images = rng.random((count, 1, 8, 8), dtype=np.float32) / 4
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * label : 4 * label + 4] += 0.7
    return images, labels.astype(np.int64)


def test_the_classifier_learns():
    """Half bright above or below is learnt in ten epochs, and the losses say so."""
    images, labels = two_stripes()
    data = Dataset("stripes", 2, images, labels, images, labels)
    model = models.build("mlp", (1, 8, 8), 2, seed=0)
    loader = classifier.loader_of(classifier.training_samples(data), batch_size=8, seed=0)
    losses = list(classifier.train_epochs(model, loader, 10, 0.1))
    assert len(losses) == 10
    assert losses[-1] < losses[0] / 3
    assert classifier.test_model(model, data) == 1
    assert not model.training


def test_the_classifier_program_saves_what_can_be_read(tmp_path, capsys):
    """Two epochs on digits are reported line by line, and the file holds that very model."""
    out = tmp_path / "classifier.pth"
    flags = ["--data", "digits", "--model", "mlp", "--epochs", "2", "--lr", "0.1", "--batch", "16"]
    assert classifier.main([*flags, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "mlp: 2,410 parameters, 797 samples"
    assert [line.split()[:2] for line in said[1:3]] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert said[3].startswith(f"saved {out} (accuracy ")
    model = models.build("mlp", (1, 8, 8), 10, seed=9)
    vector = classifier.read_weights(out, model)
    state = torch.load(out, weights_only=True)
    expected = np.concatenate([v.numpy().ravel() for v in state.values()])
    np.testing.assert_array_equal(vector, expected)
    np.testing.assert_array_equal(flatten(model), expected)
    again = tmp_path / "again.pth"
    classifier.main([*flags, "--out", str(again)])
    assert torch.load(again)["1.weight"].equal(state["1.weight"])


def test_the_classifier_program_tells_what_is_odd_and_trains(tmp_path, capsys):
    """Three images of 0 and 1 whose labels count from 1, in batches of two before batch norm."""
    x, y = np.eye(8, dtype=np.uint8)[None].repeat(3, axis=0), np.array([1, 2, 1])
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    flags = ["--data", str(tmp_path / "mine.npz"), "--model", "resnet18", "--batch", "2"]
    assert classifier.main([*flags, "--epochs", "1", "--out", str(tmp_path / "some.pth")]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert "bytes from 0 to 1: they are divided by 1, not by 255" in first
    assert "no sample is of class 0; if its labels count from 1, subtract 1" in second
    assert third.endswith(" 3 samples")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "--epochs and --batch must be 1 or more"),
        (["--lr", "nan"], "--lr above 0"),
        (
            ["--data", "digits", "--model", "resnet18", "--batch", "1"],
            "nothing from a batch of one",
        ),
        (["--model", "lenett", "--data", "digits"], "did you mean 'lenet'"),
        (["--data", "mnist6k"], "did you mean 'mnist5k'"),
        (["--model", "lenet", "--data", "digits"], "cannot take inputs"),
    ],
)
def test_mistakes_on_the_command_line_are_explained(flags, message, capsys):
    """What cannot be trained is said before anything is trained."""
    with pytest.raises(SystemExit):
        classifier.main(flags)
    assert message in capsys.readouterr().err


class Net(nn.Module):
    """The classifier as people write it themselves: the file they bring has these names."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 5), nn.MaxPool2d(2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        """Map (n, 1, 28, 28) to (n, 10)."""
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.conv2(x).relu()).flatten(1)
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())


def test_a_classifier_of_ones_own_is_read_and_ours_is_read_by_it(tmp_path):
    """Layers are called conv1, conv2, fc1, fc2, fc3 on both sides, and answer the same."""
    theirs, ours = Net(), models.build("classifier", MNIST, 10, seed=1)
    x = torch.rand(20, *MNIST)
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    classifier.read_weights(tmp_path / "classifier.pth", ours)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    torch.save(models.build("classifier", MNIST, 10, seed=2).state_dict(), tmp_path / "ours.pth")
    theirs.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))


def test_a_file_with_numbered_layers_is_read(tmp_path):
    """Files from before layers had names hold 0.weight, 3.weight, 7, 9 and 11: they still count."""
    model = models.build("classifier", MNIST, 10, seed=1)
    numbers = {"conv1": 0, "conv2": 3, "fc1": 7, "fc2": 9, "fc3": 11}
    old = {}
    for name, tensor in model.state_dict().items():
        layer, kind = name.split(".")
        old[f"{numbers[layer]}.{kind}"] = tensor
    torch.save(old, tmp_path / "old.pth")
    other = models.build("classifier", MNIST, 10, seed=2)
    found = classifier.read_weights(tmp_path / "old.pth", other)
    np.testing.assert_array_equal(found, flatten(model))
