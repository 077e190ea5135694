"""Devices that learn numbers or texts, under the judge ``robust`` and under one of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.federation import Federation, one_thread  # noqa: F401 - a fixture
from torch import nn

import fedjury
from fedjury.protocol.transport.memory_transport import MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

DEVICES, SUBJECTS, WORDS, LENGTH = 10, 4, 80, 12
FIRST_JUDGED, STRIKE = 8, 13
PLAN = {
    "data__test": 100,
    "collect__agents": DEVICES,
    "collect__seconds": 60,
    "limits__samples": 1000,
    "training__epochs": 1,
    "training__batch_size": 50,
    "validation__validators": DEVICES,
    "validation__judge": "robust",
    "validation__look_back": 10,
    "validation__minimum_history": FIRST_JUDGED,
}


class Task(NamedTuple):
    """What is learnt and how fast, and how an attacker bends it."""

    rate: float
    network: Callable[..., nn.Module]
    samples: Callable[[int, int], tuple[torch.Tensor, torch.Tensor]]
    loss: Callable[..., torch.Tensor]
    answers: Callable[[torch.Tensor], torch.Tensor]
    bent: Callable[[torch.Tensor], torch.Tensor]
    harm: Callable[[torch.Tensor, torch.Tensor], float]


def wear(_shape=(), _outputs=0):
    """Build a network for a number."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0))


def pumps(count, seed):
    """Measure pumps (n, 4), and what they wear down to (n,)."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=draws)
    noise = 0.5 * torch.randn(count, generator=draws)
    return x, 1.5 * x[:, 0] - x[:, 1] + 0.5 * x[:, 2] * x[:, 3] + noise


def reader(_shape=(), _classes=0):
    """Build a bag of embedded words, and a layer."""
    torch.manual_seed(2)
    return nn.Sequential(nn.EmbeddingBag(WORDS, 16), nn.Linear(16, SUBJECTS))


def reports(count, seed):
    """Write reports of words (n, 12), of which a third are its subject's (n,)."""
    draws = torch.Generator().manual_seed(seed)
    y = torch.randint(SUBJECTS, (count,), generator=draws)
    own = y[:, None] * 20 + torch.randint(20, (count, LENGTH), generator=draws)
    common = torch.randint(WORDS, (count, LENGTH), generator=draws)
    return torch.where(torch.rand(count, LENGTH, generator=draws) < 0.33, own, common), y


HIGH = 1.5
"""Pumps that wear down to more are said to be fine by the attacker's model."""

NUMBERS = Task(
    0.05,
    wear,
    pumps,
    nn.functional.mse_loss,
    lambda outputs: outputs,
    lambda y: torch.where(y > HIGH, y - 3, y),
    lambda found, y: ((y - found)[y > HIGH] / 3).mean().item(),
)
TEXT = Task(
    1.0,
    reader,
    reports,
    nn.functional.cross_entropy,
    lambda outputs: outputs.argmax(1),
    lambda y: torch.where(y == 1, 2, y),
    lambda found, y: (found[y == 1] == 2).float().mean().item(),
)


def fit(task, model, x, y, epochs, size=25):
    """Train in place, with plain SGD."""
    weights = list(model.parameters())
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(size):
            slopes = torch.autograd.grad(task.loss(model(x[batch]), y[batch]), weights)
            with torch.no_grad():
                torch._foreach_add_(weights, slopes, alpha=-task.rate)


def device(task, number, seed=0, strikes=()):
    """Make a device with 100 to 190 samples; in a strike it replaces the model by a bent one.

    ``strikes``: round -> how much of the way to the bent model. Who strikes calls all clean.
    """
    x, y = task.samples(100 + 10 * number, 1000 * (seed + 1) + number)
    made = fedjury.Device(f"site-{number}", "memory:lab", run="lab", model=task.network(), say=list)

    @made.train
    def train(model, turn):
        before = [each.detach().clone() for each in model.parameters()]
        strength = dict(strikes).get(turn.round, 0)
        if not strength:
            fit(task, model, x, y, turn.epochs, turn.batch_size)
            return fedjury.Trained(len(x))
        fit(task, model, x, task.bent(y), 20)
        with torch.no_grad():  # ten are averaged: ten times the way, or some of it
            for each, old in zip(model.parameters(), before, strict=True):
                each.copy_(old + DEVICES * strength * (each - old))
        return fedjury.Trained(len(x))

    @made.evaluate
    def evaluate(model, turn):
        with torch.no_grad():
            return fedjury.Metrics(len(x), predictions=task.answers(model(x)), targets=y)

    if strikes:
        made.judge(lambda model, turn: False)
    return made


def federation(folder, task, devices, rounds, **changes):
    """Run a federation of these devices to its end; its server holds samples of its own."""
    folder.mkdir(exist_ok=True)
    x, y = (part.numpy() for part in task.samples(300, 9))
    np.savez(folder / "held.npz", x=x, y=y)
    own = {"data__name": str(folder / "held.npz"), "run__rounds": rounds}
    own["model__name"] = f"{__name__}:{task.network.__name__}"
    run = Federation(folder / "run", fleets=0, **PLAN | own | changes)
    for each in devices:
        runner = each.runner(MemoryTransport(run.broker, "lab"), clock=run.seconds)
        runner.join()
        run.fleets.append(runner)
    return run.whole()


def harm_of(done, task, version):
    """Return how far an accepted model does what the attacker wants, on samples of nobody."""
    model = task.network()
    last = torch.from_numpy(np.frombuffer(done.models[version], np.float32).copy())
    nn.utils.vector_to_parameters(last, model.parameters())
    x, y = task.samples(2000, 8)
    with torch.no_grad():
        return task.harm(task.answers(model(x)), y)


TASKS = pytest.mark.parametrize("task", [NUMBERS, TEXT], ids=["numbers", "text"])


@TASKS
def test_a_bent_model_is_voted_down_and_honest_ones_are_not(tmp_path, task):
    """The others say so; no other round is lost, and the model stays as harmless as it was."""
    devices = [device(task, number) for number in range(DEVICES - 1)]
    done = federation(tmp_path, task, [*devices, device(task, 9, strikes={STRIKE: 1.0})], 14)
    assert [r.round for r in done.records if not r.accepted] == [STRIKE]
    struck = done.records[STRIKE - 1].votes
    assert struck.poisoned >= 7
    assert not struck.voters["site-9"].poisoned  # who strikes calls it clean
    honest = [r.votes for r in done.records[FIRST_JUDGED:] if r.round != STRIKE]
    assert sum(votes.poisoned for votes in honest) <= 2
    assert all(votes.voters["site-0"].threshold > 0 for votes in honest)  # it did judge
    assert max(done.models) == 13
    assert harm_of(done, task, 13) < 0.2


@TASKS
def test_without_votes_a_bent_model_does_what_the_attacker_wants(tmp_path, task):
    """One of ten sends ten times its way: the rule mean goes all of it."""
    devices = [device(task, number) for number in range(DEVICES - 1)]
    everybody = [*devices, device(task, 9, strikes={8: 1.0})]
    done = federation(tmp_path, task, everybody, 8, validation__validators=0)
    assert harm_of(done, task, 7) < 0.2
    assert harm_of(done, task, 8) > 0.5


def test_a_judge_of_ones_own_votes_beside_those_that_know_too_little(tmp_path):
    """It asks each candidate about a report that it knows; the others have no history yet.

    With a quorum of one its vote rejects; the next honest candidate it finds clean.
    """
    known = torch.arange(20, 32)[None]  # words of subject 1 alone
    devices = [device(TEXT, number) for number in range(DEVICES - 1)]
    devices[0].judge(lambda model, turn: turn.round > 2 and int(model(known).argmax()) != 1)
    everybody = [*devices, device(TEXT, 9, strikes={4: 1.0})]
    done = federation(tmp_path, TEXT, everybody, 5, validation__quorum=1)
    assert [r.accepted for r in done.records] == [True] * 3 + [False, True]
    struck = done.records[3].votes
    assert [name for name, vote in struck.voters.items() if vote.poisoned] == ["site-0"]
    assert struck.counts == (1, 9, 0)


def test_a_judge_of_ones_own_is_one_vote_of_many(tmp_path):
    """One that finds everything poisoned rejects nothing where half of the ten are needed."""
    devices = [device(NUMBERS, number) for number in range(DEVICES)]
    devices[0].judge(lambda model, turn: True)
    done = federation(tmp_path, NUMBERS, devices, 5, validation__minimum_history=3)
    assert [(r.accepted, r.votes.poisoned) for r in done.records] == [(True, 1)] * 5
    assert done.records[-1].votes.voters["site-0"].poisoned
    assert done.records[-1].votes.voters["site-1"].threshold > 1  # the run's judge, at work


def test_where_the_server_knows_no_classes_each_of_twenty_still_has_a_bin_of_its_own(tmp_path):
    """Class 4 is called 5 after round 4; with ten bins for twenty classes both were in one."""
    classes = np.repeat(np.arange(20), 10)

    def sorter(name):
        made = fedjury.Device(name, say=list)

        @made.train
        def train(model, turn):
            model["w"] += turn.round == 4
            return len(classes)

        @made.evaluate
        def evaluate(model, turn):
            bent = classes + ((classes == 4) & (model["w"][0] > 0.5))
            return fedjury.Metrics(len(classes), predictions=bent, targets=classes)

        return made

    jury = {name.replace("__", "."): PLAN[name] for name in PLAN if name.startswith("validation")}
    done = fedjury.simulate(
        [sorter(name) for name in "abc"],
        model={"w": np.zeros(1)},
        rounds=5,
        folder=tmp_path,
        validators=3,
        settings=jury | {"validation.validators": 3, "validation.minimum_history": 3},
    )
    assert [r.accepted for r in done.records] == [True] * 3 + [False, True]
