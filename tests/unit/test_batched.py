"""Networks of many agents as matrix products: the same numbers as torch's own, faster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.worlds import TASK
from torch import nn

from fedjury.learning import batched, models, training
from fedjury.learning.batched import Step
from fedjury.learning.evaluation import predict
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.training import Training, train, train_alone, train_together
from fedjury.learning.weights import flatten, load, tensors, unflatten

MNIST = (1, 28, 28)
BY_HAND = [
    ("classifier", MNIST),
    ("classifier", (3, 17, 19)),
    ("classifier", (1, 20, 24)),
    ("lenet", MNIST),
    ("lenet", (3, 32, 32)),
    ("lenet", (1, 18, 21)),
    ("cnn", MNIST),
    ("cnn", (3, 13, 16)),
    ("mlp", (1, 8, 8)),
    ("mlp", (3, 5, 4)),
]
"""Models that have stages, on images with even, odd and no remainders of pooling."""


def shards(shape, members, samples, classes=4, seed=0):
    """Deal random images, half of their pixels black, to members."""
    rng = np.random.default_rng(seed)
    count = members * samples
    x = np.maximum(rng.random((count, *shape), dtype=np.float32) * 2 - 1, 0)
    y = rng.integers(0, classes, count)
    indices = rng.permutation(count).reshape(members, samples)
    return Shards(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(indices))


def weights_of_their_own(model, members, seed=0):
    """Draw a matrix (m, d) of weights about those of the model."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.05, (members, len(flatten(model)))).astype(np.float32)
    return torch.from_numpy(flatten(model) + noise)


def torchs_gradient(model, params, x, y):
    """Return the gradients (m, d) of the mean loss, an agent at a time, by torch's autograd."""
    rows = []
    for row, inputs, labels in zip(params, x, y, strict=True):
        row = row.clone().requires_grad_()  # noqa: PLW2901
        logits = torch.func.functional_call(model, unflatten(row, tensors(model)), (inputs,))
        rows.append(torch.autograd.grad(F.cross_entropy(logits, labels), row)[0])
    return torch.stack(rows)


def gradient_by_hand(model, params, x, y):
    """Return the same by stages, through a step that is full of NaN before."""
    into = torch.full((len(x), params.shape[1]), torch.nan)
    batched.network(model).descend(params, x, y, Step(into, rate=-1.0, keep=0.0))
    return into


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("samples", [1, 3, 10])
@pytest.mark.parametrize(("name", "shape"), BY_HAND, ids=str)
def test_gradients_are_torchs(name, shape, samples, seed):
    """Each agent's gradient is autograd's: with weights of its own, shared ones, and alone."""
    model = models.build(name, shape, 4, seed)
    params = weights_of_their_own(model, 3, seed)
    data = shards(shape, 3, samples, seed=seed)
    x, y = data.x[data.indices], data.y[data.indices]
    expected = torchs_gradient(model, params, x, y)
    close = {"rtol": 1e-3, "atol": 2e-6}
    torch.testing.assert_close(gradient_by_hand(model, params, x, y), expected, **close)
    alone = gradient_by_hand(model, params[1:2], x[1:2], y[1:2])
    torch.testing.assert_close(alone, expected[1:2], **close)
    shared = torchs_gradient(model, params[:1].expand(3, -1), x, y)
    torch.testing.assert_close(gradient_by_hand(model, params[:1], x, y), shared, **close)


@pytest.mark.parametrize(
    "plan",
    [
        Training(1, 6, 0.1, 0.0),
        Training(1, 100, 0.1, 0.9),
        Training(2, 4, 0.1, 0.0),
        Training(2, 4, 0.05, 0.9),
        Training(2, 1, 0.02, 0.5),
    ],
    ids=["one step", "one step, momentum", "short batch", "short batch, momentum", "singles"],
)
@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize(("name", "shape"), BY_HAND, ids=str)
def test_training_by_hand_is_training_alone(name, shape, members, plan):
    """Many steps, with momentum or without, give what torch's own SGD gives each alone."""
    model = models.build(name, shape, 4, seed=1)
    data, order = shards(shape, members, 6), sample_order(0, 0, range(members), plan.epochs, 6)
    together = train_together(model, flatten(model), data, plan, order, TASK)
    alone = train_alone(model, flatten(model), data, plan, order, TASK)
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=3e-6)


def test_agents_are_trained_in_blocks(monkeypatch):
    """However many fit into a pass, each gets its own delta, and twice the same bits."""
    model, plan = models.build("classifier", MNIST, 4, seed=0), Training(2, 2, 0.1, 0.5)
    data, order = shards(MNIST, 5, 4), sample_order(0, 0, range(5), 2, 4)
    whole = train_together(model, flatten(model), data, plan, order, TASK)
    assert (
        whole.tobytes() == train_together(model, flatten(model), data, plan, order, TASK).tobytes()
    )
    for samples in (1, 4):
        monkeypatch.setattr(training, "BLOCK", samples)
        cut = train_together(model, flatten(model), data, plan, order, TASK)
        np.testing.assert_allclose(cut, whole, rtol=1e-3, atol=1e-6)


def test_a_step_keeps_and_adds():
    """With keep 1/2 and rate 3, 4 becomes 0.5 * 4 - 3 * 2 = -4 for a gradient of 2."""
    into = torch.full((1, 4), 4.0)
    step = Step(into, rate=3.0, keep=0.5)
    step.add(1, torch.tensor([[2.0]]))
    step.add_product(2, torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[2.0]]]))
    assert into.tolist() == [[4, -4, -4, -10]]


@pytest.mark.parametrize(
    ("image", "gradient"),
    [
        # The kernel (1, 1) makes 1, 3 above 3, 0: the gradient goes to the window above, (1, 2).
        ([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]], [1, 2]),
        # 3, 3 above 0, 0: to the left window, (1, 2).
        ([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0]], [1, 2]),
        # 3, 0 above 3, 0: above, (2, 1).
        ([[2.0, 1.0, -1.0], [1.0, 2.0, -2.0]], [2, 1]),
        # Nothing is above 0, and ReLU lets nothing back.
        ([[-2.0, 1.0, -1.0], [-1.0, 0.0, 0.0]], [0, 0]),
    ],
)
def test_of_equal_pixels_the_first_gets_the_gradient(image, gradient):
    """As in torch: rows from above, in a row from the left; and it all goes to one pixel."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, (1, 2)), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2)
    )
    params = torch.tensor([[1.0, 1.0, 0.0, 1.0, -1.0, 0.0, 0.0]])
    x, y = torch.tensor(image).reshape(1, 1, 1, 2, 3), torch.tensor([[1]])
    found = gradient_by_hand(model, params, x, y)
    torch.testing.assert_close(found, torchs_gradient(model, params, x, y))
    slope = found[0, 2].item()
    assert found[0, :2].tolist() == pytest.approx([slope * g for g in gradient])
    assert (slope > 0) == any(gradient)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "shape"), BY_HAND, ids=str)
def test_what_is_no_number_passes_through(name, shape, value):
    """From weights of NaN come deltas of NaN; those of infinity end in no error either."""
    model = models.build(name, shape, 4, seed=0)
    weights = np.full(len(flatten(model)), value, dtype=np.float32)
    plan, order = Training(2, 2, 0.1, 0.5), sample_order(0, 0, range(2), 2, 3)
    deltas = train_together(model, weights, shards(shape, 2, 3), plan, order, TASK)
    assert np.isnan(deltas).any(axis=1).all()
    assert np.isnan(deltas).all() or not np.isnan(value)


@pytest.mark.parametrize(("name", "shape"), BY_HAND, ids=str)
def test_passes_leave_their_inputs_alone(name, shape):
    """Weights, images and labels stay, and no gradient is remembered."""
    model = models.build(name, shape, 4, seed=0)
    params, data = weights_of_their_own(model, 2), shards(shape, 2, 3)
    inputs = params, data.x[data.indices], data.y[data.indices]
    before = [value.clone() for value in inputs]
    found = gradient_by_hand(model, *inputs)
    batched.network(model).logits(*inputs[:2])
    assert all(torch.equal(now, then) for now, then in zip(inputs, before, strict=True))
    assert not found.requires_grad
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("name", "shape"), [*BY_HAND, ("resnet18", (3, 8, 8))], ids=str)
def test_predictions_are_the_models_own(name, shape, monkeypatch):
    """The class with the largest logit of torch's forward pass, whatever the batches."""
    model = models.build(name, shape, 4, seed=3)
    weights, x = weights_of_their_own(model, 1)[0].numpy(), shards(shape, 1, 40).x
    if name == "resnet18":
        weights = flatten(model)  # variances about 0 are no model
    load(model, weights)
    with torch.no_grad():
        expected = model(x).argmax(1)
    other = models.build(name, shape, 4, seed=4)
    np.testing.assert_array_equal(predict(other, weights, x, TASK), expected)
    monkeypatch.setattr("fedjury.learning.evaluation.BATCH", 7)
    np.testing.assert_array_equal(predict(other, weights, x, TASK), expected)


@pytest.mark.parametrize(("name", "shape"), BY_HAND, ids=str)
def test_logits_are_torchs(name, shape):
    """Those of two agents' models, each on its own inputs, to rounding."""
    model = models.build(name, shape, 4, seed=0)
    params, data = weights_of_their_own(model, 2), shards(shape, 2, 5)
    x = data.x[data.indices]
    found = batched.network(model).logits(params, x)
    for row, inputs, logits in zip(params, x, found, strict=True):
        load(model, row.numpy())
        torch.testing.assert_close(logits, model(inputs).detach(), rtol=1e-4, atol=1e-5)


# What stages do not serve


def convolutional(conv=None, pool=None, between=(), head=None):
    """Chain a convolution, ReLU, pooling and a linear layer, one of them out of the ordinary."""
    conv = conv or nn.Conv2d(2, 2, 3)
    body = nn.Sequential(conv, nn.ReLU(), pool or nn.MaxPool2d(2), *between, nn.Flatten())
    features = body(torch.zeros(1, 2, 9, 9)).shape[1]
    return nn.Sequential(*body, head or nn.Linear(features, 4))


class Wrapped(nn.Module):
    """A network whose layers stand in no sequence."""

    def __init__(self):
        super().__init__()
        self.body = convolutional()

    def forward(self, x):
        """Map images to logits."""
        return self.body(x)


UNSERVED = {
    "stride": lambda: convolutional(nn.Conv2d(2, 2, 3, stride=2)),
    "padding": lambda: convolutional(nn.Conv2d(2, 2, 3, padding=1)),
    "same": lambda: convolutional(nn.Conv2d(2, 2, 3, padding="same")),
    "dilation": lambda: convolutional(nn.Conv2d(2, 2, 3, dilation=2)),
    "groups": lambda: convolutional(nn.Conv2d(2, 2, 3, groups=2)),
    "no bias": lambda: convolutional(nn.Conv2d(2, 2, 3, bias=False)),
    "wide pool": lambda: convolutional(pool=nn.MaxPool2d(3)),
    "close pool": lambda: convolutional(pool=nn.MaxPool2d(2, stride=1)),
    "padded pool": lambda: convolutional(pool=nn.MaxPool2d(2, padding=1)),
    "dilated pool": lambda: convolutional(pool=nn.MaxPool2d(2, dilation=2)),
    "ceiling": lambda: convolutional(pool=nn.MaxPool2d(2, ceil_mode=True)),
    "average": lambda: convolutional(pool=nn.AvgPool2d(2)),
    "identity": lambda: convolutional(between=[nn.Identity()]),
    "no bias in the head": lambda: convolutional(head=nn.Linear(18, 4, bias=False)),
    "tanh": lambda: nn.Sequential(nn.Flatten(), nn.Linear(162, 5), nn.Tanh(), nn.Linear(5, 4)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Flatten()), nn.Linear(162, 4)),
    "no sequence": Wrapped,
}


@pytest.mark.parametrize("build", UNSERVED.values(), ids=UNSERVED)
def test_what_no_stage_serves_is_trained_all_the_same(build):
    """Unknown layers and settings are noticed, and train as they would alone."""
    torch.manual_seed(0)
    model, plan = build(), Training(2, 2, 0.1, 0.5)
    assert batched.network(model) is None
    data, order = shards((2, 9, 9), 3, 3), sample_order(0, 0, range(3), 2, 3)
    together = train_together(model, flatten(model), data, plan, order, TASK)
    alone = train_alone(model, flatten(model), data, plan, order, TASK)
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=3e-6)


def test_stages_serve_every_model_but_those_with_batch_norm():
    """ResNet goes the general way; the other models of the table are fast."""
    for name, build in models.MODELS.items():
        served = batched.network(build((3, 32, 32), 10)) is not None
        assert served == (name != "resnet18")


# Unequal numbers of samples


def unequal_shards(shape, held, seed=0):
    """Deal so many random images to each."""
    data = shards(shape, len(held), max(held), seed=seed)
    held = torch.tensor(held)
    first, place = data.indices[:, :1], torch.arange(data.indices.shape[1])
    return data._replace(indices=torch.where(place < held[:, None], data.indices, first), held=held)


def by_torch(model, weights, data, plan, order, agent):
    """Train one agent with torch.optim.SGD on its own samples, batch by batch."""
    held = int(data.held[agent])
    load(model, weights)
    sgd = torch.optim.SGD(model.parameters(), plan.learning_rate, plan.momentum)
    for epoch in order[agent]:
        visits = data.indices[agent][[place for place in epoch if place < held]]
        for batch in visits.split(plan.batch_size):
            sgd.zero_grad()
            F.cross_entropy(model(data.x[batch]), data.y[batch]).backward()
            sgd.step()
    return flatten(model) - weights


HELD = [5, 1, 3, 9, 4, 8, 12, 1]
"""With batches of four: from one step a pass to three, the last short, full or of one."""


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize(("name", "shape"), [("mlp", (1, 5, 4)), ("lenet", (1, 18, 21))])
def test_agents_of_unequal_numbers_train_as_alone(name, shape, momentum):
    """Together or one by one, each takes the steps that PyTorch takes on its own samples alone."""
    plan, data = Training(2, 4, 0.1, momentum), unequal_shards(shape, HELD)
    model = models.build(name, shape, 4, 1)
    weights, order = flatten(model), sample_order(3, 1, range(len(HELD)), 2, max(HELD))
    together = train_together(model, weights, data, plan, order, TASK)
    alone = train_alone(model, weights, data, plan, order, TASK)
    for agent in range(len(HELD)):
        expected = by_torch(model, weights, data, plan, order, agent)
        np.testing.assert_allclose(together[agent], expected, atol=2e-6)
        np.testing.assert_array_equal(alone[agent], expected)


def test_unequal_numbers_go_the_general_way_too():
    """Networks that are not written out, here with tanh, train by vmap with the same result."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 4))
    plan, data = Training(2, 4, 0.1, 0.5), unequal_shards((1, 5, 4), HELD)
    assert batched.network(model) is None
    weights, order = flatten(model), sample_order(3, 1, range(len(HELD)), 2, max(HELD))
    together = train_together(model, weights, data, plan, order, TASK)
    np.testing.assert_allclose(
        together, train_alone(model, weights, data, plan, order, TASK), atol=2e-6
    )


def test_equal_numbers_that_are_told_are_equal_numbers():
    """Told that all hold as many, agents learn the same up to rounding."""
    data, plan = shards((1, 5, 4), 9, 6), Training(2, 4, 0.1, 0.5)
    model = models.build("mlp", (1, 5, 4), 4, 1)
    weights, order = flatten(model), sample_order(0, 0, range(9), 2, 6)
    told = data._replace(held=torch.full((9,), 6))
    np.testing.assert_allclose(
        train_together(model, weights, told, plan, order, TASK),
        train_together(model, weights, data, plan, order, TASK),
        atol=2e-6,
    )


def test_who_trains_together_changes_no_bit_of_unequal_numbers():
    """An agent learns the same bits among a hundred others as among thirty-five."""
    held = [1 + 7 * i % 12 for i in range(101)]
    plan, data = Training(2, 4, 0.1, 0.5), unequal_shards((1, 8, 8), held)
    model = models.build("mlp", (1, 8, 8), 4, 1)
    weights, order = flatten(model), sample_order(0, 0, range(101), 2, 12)
    whole = train_together(model, weights, data, plan, order, TASK)
    some = torch.arange(0, 101)[3:97:3][:32]
    part = train_together(model, weights, data.of(some), plan, order[some.numpy()], TASK)
    np.testing.assert_array_equal(part, whole[some.numpy()])


SKEWED = [0, 1, 2, 300, 5, 0, 17, 64, 1, 3, 130, 2]
"""From nothing to hundreds: most take a step or two, one takes 75 in each epoch."""


class Convolving(nn.Module):
    """A network that goes the general way, with convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3), nn.Linear(3 * 3 * 2, 4)

    def forward(self, x):
        """Answer to images (n, 1, 5, 4)."""
        return self.last(torch.tanh(self.first(x)).flatten(1))


WAYS = {
    "written out": lambda: models.build("mlp", (1, 5, 4), 4, 1),
    "vmap": lambda: nn.Sequential(nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 4)),
    "vmap with convolutions": Convolving,
    "alone": lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(20, 4)),
}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("way", WAYS)
def test_sizes_from_nothing_to_hundreds(way, momentum):
    """Each takes the steps that it takes alone, and who holds no sample learns nothing."""
    torch.manual_seed(0)
    model, plan = WAYS[way](), Training(2, 4, 0.02, momentum)
    data, weights = unequal_shards((1, 5, 4), SKEWED), flatten(model)
    order = sample_order(3, 1, range(len(SKEWED)), 2, np.array(SKEWED))
    together = train(model, weights, data, plan, order, TASK)
    alone = train_alone(model, weights, data, plan, order, TASK)
    np.testing.assert_allclose(together, alone, atol=1e-4)
    empty = np.array(SKEWED) == 0
    assert (together[empty] == 0).all()
    assert (np.abs(together[~empty]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("held", [[9], [0, 9], [9, 9], [0, 0], [1], [9, 4, 0]])
def test_few_agents_of_unequal_sizes(held):
    """One alone, beside one that holds nothing, and nobody that holds any."""
    model, plan = models.build("mlp", (1, 5, 4), 4, 1), Training(2, 4, 0.1, 0.5)
    data, weights = unequal_shards((1, 5, 4), [*held, 12]), flatten(model)
    data = data.of(slice(len(held)))
    order = sample_order(0, 0, range(len(held)), 2, np.array(held))
    together = train_together(model, weights, data, plan, order, TASK)
    alone = train_alone(model, weights, data, plan, order, TASK)
    np.testing.assert_allclose(together, alone, atol=2e-6)


@pytest.mark.parametrize("way", ["written out", "vmap", "vmap with convolutions"])
def test_company_changes_no_bit_of_sizes_far_apart(way):
    """Sorted otherwise, with half of them, or with the one who takes most steps: the same bits."""
    torch.manual_seed(0)
    held = np.array([*SKEWED[1:5], *SKEWED[6:]] * 4)
    model, plan = WAYS[way](), Training(1, 4, 0.1, 0.5)
    data, weights = unequal_shards((1, 5, 4), held.tolist()), flatten(model)
    order = sample_order(0, 0, range(len(held)), 1, held)
    whole = train_together(model, weights, data, plan, order, TASK)
    for some in (np.arange(len(held))[::-1].copy(), np.arange(0, 40, 2), np.arange(2, 22)):
        part = train_together(
            model, weights, data.of(torch.from_numpy(some)), plan, order[some], TASK
        )
        np.testing.assert_array_equal(part, whole[some])


def test_one_large_agent_costs_the_others_no_steps(monkeypatch):
    """Of a hundred agents with one sample and one with 400: 100 steps, not 100 of each of them."""
    held = [1] * 100 + [400]
    model, plan = models.build("mlp", (1, 5, 4), 4, 1), Training(1, 4, 0.1, 0.0)
    data, taken = unequal_shards((1, 5, 4), held), []
    order = sample_order(0, 0, range(101), 1, np.array(held))
    descend = batched.Network.descend

    def counted(self, params, x, y, step, shares):
        taken.append(len(x))
        descend(self, params, x, y, step, shares)

    monkeypatch.setattr(batched.Network, "descend", counted)
    train_together(model, flatten(model), data, plan, order, TASK)
    assert taken == [101] + [2] * 99


# Visiting orders


def test_the_order_of_an_agent_does_not_depend_on_what_others_hold():
    """It visits its own samples as it does where all hold as many as it."""
    held = np.array([3, 9, 1, 5])
    drawn = sample_order(5, 2, (3, 8, 4, 6), 2, held)
    assert drawn.shape == (4, 2, 9)
    for row, member, count in zip(drawn, (3, 8, 4, 6), held, strict=True):
        np.testing.assert_array_equal(
            row[:, :count], sample_order(5, 2, (member,), 2, int(count))[0]
        )


def test_visiting_orders_come_from_seed_round_and_member_alone():
    """Whoever else is called changes nothing; another seed, round, member or epoch does."""
    drawn = sample_order(5, 2, (3, 8, 4), 2, 9)
    assert drawn.shape == (3, 2, 9)
    assert drawn.dtype == np.int64
    np.testing.assert_array_equal(sample_order(5, 2, (8,), 2, 9)[0], drawn[1])
    others = [
        sample_order(6, 2, (8,), 2, 9),
        sample_order(5, 3, (8,), 2, 9),
        sample_order(2, 5, (8,), 2, 9),
    ]
    rows = {tuple(row) for some in (drawn, *others) for row in some.reshape(-1, 9)}
    assert len(rows) == 2 * (3 + 3)
    assert sample_order(2**63 - 1, 0, (0,), 1, 1).tolist() == [[[0]]]


def test_every_visiting_order_is_as_likely():
    """Of 6,000 orders of three samples each of the six comes about 1,000 times (sd 29)."""
    drawn = sample_order(0, 1, range(3000), 2, 3).reshape(-1, 3)
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(found) == 6
    assert np.abs(counts - 1000).max() < 120
