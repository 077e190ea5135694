"""Frozen backbones, adapters on a large network, and what of them travels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.federation import one_thread  # noqa: F401 - a fixture
from torch import nn

import fedjury
from fedjury.learning.weights import fixed, flatten
from fedjury.protocol.codec import encode
from fedjury.protocol.messages import Update

pytestmark = pytest.mark.usefixtures("one_thread")


class Adapted(nn.Module):
    """A frozen layer of a million weights, and two thin ones beside it that are trained (LoRA).

    Hu et al., ICLR 2022: W x + B A x, with B zero at first.
    """

    def __init__(self, seed=0, rank=2):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.large = nn.Linear(1000, 1000)
        with torch.no_grad():
            self.large.weight.normal_(0, 0.03, generator=generator)
            self.large.bias.zero_()
        self.large.requires_grad_(False)
        self.down = nn.Linear(1000, rank, bias=False)
        self.up = nn.Linear(rank, 1000, bias=False)
        with torch.no_grad():
            self.down.weight.normal_(0, 0.03, generator=generator)
            self.up.weight.zero_()
        self.head = nn.Parameter(torch.zeros(1000))

    def forward(self, x):
        """Take rows of a thousand numbers."""
        return (self.large(x) + self.up(self.down(x))) @ self.head


def adapted(name, seed=0, said=None):
    """Make a device that fits the adapters to targets of its own."""
    rng = np.random.default_rng(len(name))
    x = torch.tensor(rng.standard_normal((40, 1000)), dtype=torch.float32)
    y = x[:, 0]
    say = (said if said is not None else []).append
    device = fedjury.Device(name, model=Adapted(seed), say=say)

    @device.train
    def train(model, turn):
        adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.003)
        for _ in range(10):
            adam.zero_grad()
            ((model(x) - y) ** 2).mean().backward()
            adam.step()
        return fedjury.Trained(40)

    @device.evaluate
    def evaluate(model, turn):
        with torch.no_grad():
            return fedjury.Metrics(40, predictions=model(x), targets=y)

    return device


def test_adapters_on_a_network_of_a_million_weights_travel_in_20_kb():
    """5,000 of 1,006,000 parameters are trained; the model learns, and the rest stays as it was."""
    network = Adapted()
    assert len(flatten(network)) == 5000
    update = Update("a", 1, 0, 40, flatten(network))
    assert len(encode(update)) < 20_200
    result = fedjury.simulate([adapted("a"), adapted("bb")], model=network, rounds=6)
    errors = [row["rmse"] for row in result.history]
    assert errors[-1] < 0.5 * errors[0]
    state = result.state_dict()
    assert torch.equal(state["large.weight"], network.large.weight)
    assert result.records[-1].traffic.bytes_in < 2 * 21_000


def test_another_frozen_part_is_said():
    """Trained on top of other frozen weights, updates do not fit together; one sentence each."""
    said: list[str] = []
    fedjury.simulate([adapted("a", seed=0, said=said)], model=Adapted(), rounds=1)
    assert not said
    fedjury.simulate([adapted("a", seed=1, said=said)], model=Adapted(), rounds=1)
    [line] = said
    assert "what is frozen in this device's model is not what the aggregator has" in line


def test_a_fingerprint_is_of_what_does_not_travel():
    """Trained weights and counters change nothing in it, a frozen weight does."""
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    assert fixed(network) == ""
    network[0].requires_grad_(False)
    before = fixed(network)
    network.train()(torch.randn(8, 2))
    network[2].weight.data += 1
    assert fixed(network) == before != ""
    network[0].weight.data += 1
    assert fixed(network) != before
