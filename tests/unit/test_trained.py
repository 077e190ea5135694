"""What of a model is trained and travels: no frozen layers, no constants, shared weights once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.worlds import TASK
from torch import nn

from fedjury.learning import models
from fedjury.learning.saved import read_weights
from fedjury.learning.shards import Shards, sample_order
from fedjury.learning.training import Training, train
from fedjury.learning.weights import flatten, load, tensors

PLAN = Training(epochs=2, batch_size=2, learning_rate=0.1, momentum=0.0)


def frozen(layer):
    """Take a layer out of training."""
    return layer.requires_grad_(requires_grad=False)


def names(model):
    return [tensor.name for tensor in tensors(model)]


def shards(width=6, agents=3, samples=5):
    """Deal random vectors of four classes to agents, each its own."""
    rng = np.random.default_rng(0)
    count = agents * samples
    return Shards(
        torch.from_numpy(rng.random((count, width), dtype=np.float32)),
        torch.from_numpy(rng.integers(0, 4, count)),
        torch.arange(count).reshape(agents, samples),
    )


def learnt(model, seeds=(1, 2, 3), data=None):
    """Train three agents from the model's weights; returns their deltas (3, d)."""
    data = shards() if data is None else data
    order = sample_order(0, 1, range(len(data.indices)), PLAN.epochs, data.indices.shape[1])
    return train(model, flatten(model), data, PLAN, order, TASK, np.array(seeds, dtype=np.uint64))


def test_a_frozen_layer_does_not_travel_and_does_not_change():
    """Of a frozen backbone of 6 x 50 weights and a head of 50 x 4, only the head's 204 travel."""
    torch.manual_seed(0)
    model = nn.Sequential(frozen(nn.Linear(6, 50)), nn.ReLU(), nn.Linear(50, 4))
    before = model[0].weight.clone()
    assert names(model) == ["2.weight", "2.bias"]
    assert learnt(model).shape == (3, 204)
    assert torch.equal(model[0].weight, before)


def test_constants_stay_and_running_statistics_travel():
    """A table of positions is the same everywhere; what batch norm has seen is not."""
    model = nn.Sequential(nn.BatchNorm1d(3))
    model.register_buffer("positions", torch.arange(3.0))
    assert names(model) == ["0.weight", "0.bias", "0.running_mean", "0.running_var"]
    assert names(frozen(nn.BatchNorm1d(3))) == []


def test_frozen_batch_norm_keeps_its_statistics_in_training():
    """A backbone that is frozen answers after training as it did before, whoever trained first."""
    torch.manual_seed(0)
    model = nn.Sequential(frozen(nn.BatchNorm1d(6)), nn.Linear(6, 4), nn.BatchNorm1d(4))
    learnt(model)
    assert torch.equal(model[0].running_mean, torch.zeros(6))
    assert "2.running_mean" in names(model)


class Tied(nn.Module):
    """Two layers with one matrix between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        """Go through the shared matrix twice."""
        return self.head(self.second(self.first(x)))


def test_shared_weights_travel_once():
    """36 + 6 + 6 numbers of two layers that share a matrix, and 28 of the head."""
    torch.manual_seed(0)
    model = Tied()
    assert names(model) == ["first.weight", "first.bias", "second.bias", "head.weight", "head.bias"]
    deltas = learnt(model)
    assert deltas.shape == (3, 76)
    load(model, flatten(model) + deltas[0])
    assert torch.equal(model.first.weight, model.second.weight)


def test_a_layer_that_stands_twice_trains_as_torch_trains_it():
    """Written-out layers have columns of their own, so such a model goes the general way."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 4))
    deltas = learnt(model)
    sgd = torch.optim.SGD(list(model.parameters()), PLAN.learning_rate)
    data, start = shards(), flatten(model)
    order = sample_order(0, 1, range(3), PLAN.epochs, 5)[1]
    for visits in order:
        for batch in data.indices[1][torch.from_numpy(visits)].split(PLAN.batch_size):
            sgd.zero_grad()
            nn.functional.cross_entropy(model(data.x[batch]), data.y[batch]).backward()
            sgd.step()
    np.testing.assert_allclose(deltas[1], flatten(model) - start, atol=1e-6)


def dropping():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 4))


def test_dropout_is_drawn_for_each_agent_from_its_own_seed():
    """The same seed drops the same, whoever trains beside; another seed drops something else."""
    data = shards()
    three = learnt(dropping())
    np.testing.assert_array_equal(learnt(dropping()), three)
    other = learnt(dropping(), seeds=(1, 9, 3))
    np.testing.assert_array_equal(other[[0, 2]], three[[0, 2]])
    assert not np.array_equal(other[1], three[1])
    one = Shards(data.x, data.y, data.indices[2:])
    order = sample_order(0, 1, (2,), PLAN.epochs, 5)
    model = dropping()
    seeds = np.array([3], dtype=np.uint64)
    alone = train(model, flatten(model), one, PLAN, order, TASK, seeds)
    np.testing.assert_array_equal(alone[0], three[2])


def test_dropout_is_not_switched_off():
    """Without its dropout the same network learns something else."""
    plain = dropping()
    plain[2] = nn.Dropout(0.0)
    assert not np.allclose(learnt(dropping()), learnt(plain), atol=1e-4)


def pretrained(shape, classes):
    """Build a network that comes with weights of its own, all a half."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    return model


def test_a_network_from_elsewhere_keeps_the_weights_that_it_comes_with():
    """Ours begin as Glorot and Bengio have it; others as who wrote them has it."""
    model = models.build(f"{__name__}:pretrained", (1, 2, 2), 3, seed=0)
    np.testing.assert_array_equal(flatten(model), np.full(15, 0.5, dtype=np.float32))


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_of_all_weights_fits_a_model_that_is_frozen_in_part(tmp_path, whole):
    """What does not travel is not read: a file may have it or not."""
    torch.manual_seed(0)
    model = nn.Sequential(frozen(nn.Linear(6, 5)), nn.Linear(5, 4))
    state = {name: torch.ones_like(value) for name, value in model.state_dict().items()}
    file = tmp_path / "weights.pth"
    torch.save(state if whole else {name: state[name] for name in names(model)}, file)
    before = model[0].weight.clone()
    read_weights(file, model)
    np.testing.assert_array_equal(flatten(model), np.ones(24, dtype=np.float32))
    assert torch.equal(model[0].weight, before)
