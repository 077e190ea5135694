"""Real devices: own names, own data, own functions, in a federation in this process."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from support.federation import Federation, one_thread, settings_of  # noqa: F401 - a fixture
from torch import nn

import fedjury
from fedjury.agents.agent import Judge
from fedjury.aggregator.assembly import build
from fedjury.learning.datasets import load
from fedjury.protocol.transport.memory_transport import MemoryBroker, MemoryTransport

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {"site-a": 37, "site-b": 120, "site-c": 300}
MORE = {"site-d": 200}
CALM = {
    "data__test": 500,
    "training__batch_size": 10,
    "training__epochs": 3,
    "collect__agents": 3,
    "collect__seconds": 60,  # looks at the clock by the thousand: nobody waits that long here
    "model__name": f"{__name__}:network",
    "limits__samples": 1000,
    "aggregation__options": {"weighted": True},
}


def network(shape, classes):
    """Build the network of these tests, with dropout in it."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(np.prod(shape)), 32),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(32, classes),
    )


def share(name, shape=(1, 8, 8)):
    """Return a device's own samples: as many as ``SIZES`` says, of the training set."""
    data = load("digits", None, 500)
    sizes = SIZES | MORE
    first = sum(list(sizes.values())[: list(sizes).index(name)])
    mine = slice(first, first + sizes[name])
    return torch.from_numpy(data.x_train[mine]), torch.from_numpy(data.y_train[mine])


def device(name, said=None, *, evaluates=True, **given):
    """Make a device that trains by plain SGD on its own samples."""
    made = fedjury.Device(
        name,
        "memory:lab",
        run="lab",
        say=(said if said is not None else []).append,
        **{"model": network((1, 8, 8), 10)} | given,
    )
    x, y = share(name)

    @made.train
    def train(model, turn):
        sgd = torch.optim.SGD(model.parameters(), turn.learning_rate)
        for _ in range(turn.epochs):
            for batch in torch.randperm(len(x)).split(turn.batch_size):
                sgd.zero_grad()
                nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                sgd.step()
        return fedjury.Trained(samples=len(x))

    def evaluate(model, turn):
        with torch.no_grad():
            answers = model(x).argmax(1)
        return fedjury.Metrics(len(x), predictions=answers, targets=y)

    if evaluates:
        made.evaluate(evaluate)
    return made


def federation(folder, devices, **changes):
    """Run a federation of these devices to its end."""
    run = Federation(folder, fleets=0, **CALM | {"run__rounds": 6} | changes)
    for each in devices:
        runner = each.runner(MemoryTransport(run.broker, "lab"), clock=run.seconds)
        runner.join()
        run.fleets.append(runner)
    return run.whole()


def test_devices_with_37_120_and_300_samples_learn_together(tmp_path):
    """Each is counted by its samples; the model is better than one that only learnt to guess."""
    done = federation(tmp_path, map(device, SIZES), run__rounds=12)
    assert [r.updates for r in done.records] == [3] * 12
    assert done.accuracies[-1] > 0.85


def test_the_same_devices_come_to_the_same_models(tmp_path):
    """Batches and dropout are drawn from round and name, not from what the process drew before."""
    runs = []
    for number in range(2):
        torch.manual_seed(number)
        runs.append(federation(tmp_path / str(number), map(device, SIZES)))
    assert runs[0].models == runs[1].models


def test_devices_vote_with_what_they_measure(tmp_path):
    """Predictions and targets of an evaluate function are all that the configured judge needs."""
    changes = {"validation__validators": 3, "validation__quorum": 2, "validation__look_back": 2}
    done = federation(tmp_path, map(device, SIZES), **changes)
    assert [set(r.votes.voters) for r in done.records] == [set(SIZES)] * 6
    assert done.records[-1].votes.voters["site-a"].score is not None
    assert done.records[-1].accepted


@pytest.mark.parametrize("piggy_back", [False, True])
def test_devices_tell_what_they_counted_where_that_is_asked_for(tmp_path, piggy_back):
    """All three are pooled as soon as three models are accepted, in votes as in updates."""
    changes = {
        "validation__decide": "pooled",
        "validation__judge": "robust",
        "validation__look_back": 2,
        "validation__piggy_back": piggy_back,
    }
    changes |= {} if piggy_back else {"validation__validators": 3, "validation__quorum": 2}
    done = federation(tmp_path, map(device, SIZES), **changes)
    assert [r.votes.pooled and r.votes.pooled.validators for r in done.records] == (
        [None] * (2 + piggy_back) + [3] * (4 - piggy_back)
    )
    assert not any(r.traffic.invalid_messages for r in done.records)


def test_a_judge_of_ones_own_decides(tmp_path):
    """Who finds every candidate poisoned says so; two of them reject with a quorum of two."""
    devices = [device(name) for name in SIZES]
    for each in devices[:2]:
        each.judge(lambda model, turn: turn.round > 1)
    changes = {"validation__validators": 3, "validation__quorum": 2, "validation__look_back": 2}
    done = federation(tmp_path, devices, run__rounds=2, **changes)
    assert [r.accepted for r in done.records] == [True, False]
    assert done.records[1].votes.counts[0] == 2


ON_GROUPS = {
    "groups__size": 2,
    "validation__on": "groups",
    "validation__validators": 4,
    "validation__quorum": 2,
    "validation__look_back": 4,
    "validation__minimum_history": 3,
    "validation__judge": "robust",
    "collect__agents": 4,
    "run__rounds": 6,
}
"""Four devices in two groups of two."""

FOUR = ("site-a", "site-b", "site-c", "site-d")


def turns_bad(made, first):
    """Let a device send a ruined model from this round on."""

    @made.train
    def train(model, turn):
        with torch.no_grad():
            for part in model.parameters():
                part.mul_(1.0 if turn.round < first else -30.0)
        return fedjury.Trained(samples=100)

    return made


def test_devices_vote_on_groups_with_what_they_measure(tmp_path):
    """From round 5 on one of four spoils its group, which all find poisoned; the other counts."""
    devices = [device(name) for name in FOUR[:3]]
    devices.append(turns_bad(device("site-d"), 5))
    done = federation(tmp_path, devices, **ON_GROUPS)
    assert all(record.accepted for record in done.records)
    for record in done.records:
        assert set(record.groups.voters) == set(FOUR)
        assert {vote.judged for vote in record.groups.voters.values()} == {2}
        bad = [n for n, group in record.groups.groups.items() if "site-d" in group.members]
        assert list(record.groups.left_out) == (bad if record.round >= 5 else [])
        assert not record.traffic.invalid_messages
    assert done.accuracies[-1] > 0.5


def test_a_judge_of_ones_own_decides_on_groups(tmp_path):
    """It is asked once for each group, of round 2 twice in a row; two find the first poisoned."""
    asked = []

    def judge(model, turn):
        asked.append(turn.round)
        return turn.round == 2 and asked.count(2) == 1

    devices = [device(name, evaluates=False) for name in FOUR]
    devices[0].judge(judge)
    devices[1].judge(lambda model, turn, seen=[]: seen.append(turn.round) or seen.count(2) == 1)
    for each in devices[2:]:
        each.judge(lambda model, turn: False)
    done = federation(tmp_path, devices, **ON_GROUPS | {"run__rounds": 2})
    assert asked == [1, 1, 2, 2]
    assert [record.accepted for record in done.records] == [True, True]
    assert [record.groups.left_out for record in done.records] == [(), ("0",)]
    groups = done.records[1].groups
    assert (groups.groups["0"].poisoned, groups.groups["0"].clean) == (2, 2)
    assert groups.voters["site-a"].poisoned == groups.voters["site-b"].poisoned == (0,)


def test_a_device_that_cannot_judge_groups_says_so_and_is_not_waited_for(tmp_path):
    """Its evaluate function fails: it sits the votes out, and the three others decide at once."""
    said = []
    devices = [device(name) for name in FOUR[:3]] + [device("site-d", said)]

    @devices[3].evaluate
    def evaluate(model, turn):
        raise RuntimeError("the sensor is unplugged")

    waits = {"validation__seconds": 10_000}
    done = federation(tmp_path, devices, **ON_GROUPS | {"run__rounds": 2} | waits)
    assert [record.groups.groups["0"].silent for record in done.records] == [1, 1]
    assert all(record.timing.seconds < 1000 for record in done.records)
    assert [set(record.groups.voters) for record in done.records] == [set(FOUR[:3])] * 2
    assert all(record.accepted for record in done.records)
    told = [text for text in said if "asked to vote on groups, it cannot" in text]
    assert len(told) == 1


def test_with_piggy_back_a_device_judges_and_trains_in_one(tmp_path):
    """An update is a clean vote; who votes against sends only that."""
    changes = {"validation__piggy_back": True, "validation__quorum": 3, "validation__look_back": 2}
    done = federation(tmp_path, map(device, SIZES), **changes)
    assert all(r.accepted is not False for r in done.records)
    assert [sum(r.votes.counts[:2]) for r in done.records[1:]] == [3] * 5  # nobody was silent


def test_a_vote_on_what_is_over_is_not_given():
    """With the models gone that it is to be compared with, a candidate of before has no vote."""
    manifest = build(settings_of(**CALM, validation__look_back=2)).manifest
    own = device("site-a")
    batch = own.runner(MemoryTransport(MemoryBroker(), "lab")).new_batch(manifest)
    weights = np.zeros(manifest.parameters, np.float32)
    for version in range(4):
        batch.keep(version, weights)
    assert batch.votes(["site-a"], Judge(2, 1, (0, 1, 2)), weights) == []
    assert len(batch.votes(["site-a"], Judge(4, 1, (1, 2, 3)), weights)) == 1


def spoils(kind):
    """Return a train function that does something wrong."""

    def raising(model, turn):
        raise RuntimeError("the sensor is unplugged")

    def nothing(model, turn):
        return None

    def infinite(model, turn):
        with torch.no_grad():
            model[1].weight.fill_(float("inf"))
        return fedjury.Trained(samples=5)

    def negative(model, turn):
        return -1

    def away(model, turn):
        return fedjury.Trained(samples=0)

    return {
        "raises": raising,
        "none": nothing,
        "infinite": infinite,
        "negative": negative,
        "away": away,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("raises", "raising raised RuntimeError: the sensor is unplugged (line"),
        ("none", "nothing returned NoneType; it must return fedjury.Trained(samples=...)"),
        ("infinite", "infinite left weights that are not finite"),
        ("negative", "negative returned samples=-1"),
        ("away", ""),
    ],
)
def test_a_device_that_fails_sits_the_round_out(tmp_path, kind, sentence):
    """The round goes on at once; its own people read which function did what."""
    said = []
    broken = device("site-a", said)
    broken.train(spoils(kind))
    done = federation(tmp_path, [broken, device("site-b"), device("site-c")], run__rounds=2)
    assert [r.updates for r in done.records] == [2, 2]
    told = [text for text in said if "goes on without this device" in text]
    assert len(told) == (2 if sentence else 0)
    assert all(sentence in text for text in told)


def test_without_pytorch_a_device_trains_named_arrays(tmp_path):
    """Given the run's model as a dict of arrays, it changes them in place."""
    x, y = (part.numpy() for part in share("site-b"))
    x = x.reshape(len(x), 64)
    plain = fedjury.Device("site-b", "memory:lab", run="lab", say=[].append)

    @plain.train
    def train(model, turn):
        for _ in range(20):
            logits = x @ model["1.weight"].T + model["1.bias"]
            slope = np.exp(logits - logits.max(1, keepdims=True))
            slope /= slope.sum(1, keepdims=True)
            slope[np.arange(len(y)), y] -= 1
            model["1.weight"] -= slope.T @ x / len(y)
            model["1.bias"] -= slope.mean(0)
        return len(y)

    done = federation(
        tmp_path, [plain], model__name=f"{__name__}:softmax", collect__agents=1, run__rounds=5
    )
    assert done.accuracies[-1] > 0.75


def softmax(shape, classes):
    """Build a network of one layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def test_a_small_device_needs_no_pytorch():
    """A device whose model is arrays never imports PyTorch, and takes less than 60 MB."""
    code = """
import re, sys
import fedjury
device = fedjury.Device("site-a", "memory:lab")
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
print("torch" in sys.modules, peak < 60_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"


@pytest.mark.parametrize("name", ["", "site a", "a" * 65, "site/a"])
def test_a_name_that_is_no_topic_is_refused(name):
    """Names are parts of topics."""
    with pytest.raises(ValueError, match="must be 1 to 64 of A-Z a-z 0-9 _ -"):
        fedjury.Device(name)


def test_devices_measure_each_candidate_on_their_own_data(tmp_path):
    """Federated evaluation: accuracy and an own figure, weighted by samples, and by device."""
    devices = [device(name) for name in SIZES]
    for number, each in enumerate(devices):
        x, y = share(each.name)

        @each.evaluate
        def evaluate(model, turn, x=x, y=y, number=number):
            with torch.no_grad():
                answers = model(x).argmax(1)
            return fedjury.Metrics(len(x), predictions=answers, targets=y, place=number)

    changes = {"evaluation__fraction": 1.0, "evaluation__by_agent": True}
    done = federation(tmp_path, devices, run__rounds=2, **changes)
    last = done.records[-1]
    assert set(last.evaluated) == set(SIZES)
    assert last.model.metrics["place"] == (0 * 37 + 1 * 120 + 2 * 300) / 457
    by_hand = sum(SIZES[name] * one.metrics["accuracy"] for name, one in last.evaluated.items())
    assert last.model.metrics["accuracy"] == pytest.approx(by_hand / 457)
    assert {name: one.samples for name, one in last.trained.items()} == SIZES


def test_a_device_that_only_trains_is_not_asked_to_judge_or_to_measure(tmp_path):
    """One of three has no evaluate function: the two others vote and measure, nobody is silent."""
    devices = [device(name, evaluates=name != "site-a") for name in SIZES]
    changes = {"evaluation__fraction": 1.0, "validation__validators": 3, "validation__look_back": 2}
    done = federation(tmp_path, devices, run__rounds=3, **changes)
    assert {frozenset(r.votes.voters) for r in done.records} == {frozenset(("site-b", "site-c"))}
    assert {frozenset(r.evaluated) for r in done.records} == {frozenset(("site-b", "site-c"))}
    assert [r.votes.silent for r in done.records] == [0, 0, 0]


def test_a_device_that_has_not_trained_yet_measures_without_dropout(tmp_path):
    """It sits all rounds out, and is asked to measure; its predictions may come with a gradient."""
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout(0.5))
    modes = []
    device = fedjury.Device("site-b", model=network, say=list)
    device.train(lambda model, turn: 0)

    @device.evaluate
    def evaluate(model, turn):
        modes.append(model.training)
        return fedjury.Metrics(2, predictions=model(torch.ones(2, 2))[:, 0], targets=torch.ones(2))

    other = fedjury.Device("site-a", model=deepcopy(network), say=list)
    other.train(lambda model, turn: 1)
    result = fedjury.simulate([other, device], model=network, rounds=1, folder=tmp_path)
    assert modes == [False]
    assert "rmse" in result.history[0]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (lambda: 0.5, "returned float; it must return fedjury.Metrics"),
        (lambda: fedjury.Metrics(3, rmse=float("nan")), "returned rmse = nan"),
        (lambda: fedjury.Metrics(-1, rmse=1.0), "returned samples=-1"),
        (lambda: fedjury.Metrics(2, predictions=[1], targets=[1, 2]), "both must be (n,)"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_an_evaluate_function_that_is_wrong_is_told_and_not_waited_for(tmp_path, metrics, said):
    """The others measure the candidate; the sentence names the function and what is wrong."""
    heard: list[str] = []
    devices = [device(name, heard) for name in SIZES]
    devices[1].evaluate(lambda model, turn: metrics())
    done = federation(tmp_path, devices, run__rounds=2, evaluation__fraction=1.0)
    assert [set(r.evaluated) for r in done.records] == [{"site-a", "site-c"}] * 2
    assert all(r.timing.seconds < 5 for r in done.records)
    [line] = [line for line in heard if said in line]
    assert "asked to evaluate a candidate, it cannot" in line


def test_what_training_measures_is_in_the_record(tmp_path):
    """A loss of 1, 2 and 3 on 37, 120 and 300 samples."""
    devices = [device(name) for name in SIZES]
    for loss, each in enumerate(devices, 1):
        made = fedjury.Trained(SIZES[each.name], {"loss": loss})
        each.train(lambda model, turn, made=made: made)
    done = federation(tmp_path, devices, run__rounds=1)
    assert done.records[0].training == {"loss": (37 + 240 + 900) / 457}


def test_simulated_agents_measure_candidates_too(tmp_path):
    """With honest agents their mean is near what the server finds on samples of nobody."""
    done = Federation(tmp_path, run__rounds=6, evaluation__fraction=0.5).whole()
    last = done.records[-1]
    assert len(last.evaluated) == 10
    assert last.model.metrics["accuracy"] == pytest.approx(last.model.accuracy, abs=0.12)


def test_devices_learn_together_and_nobody_sees_an_update(tmp_path):
    """Four of them in one group under masks, weighted by their samples: as good as in the clear."""
    masked = {
        "collect__agents": 4,
        "groups__size": 0,
        "groups__secure": True,
        "groups__colluding": 0.25,
        "groups__drop_outs": 0.25,
        "run__rounds": 12,
    }
    devices = [device(name, state=tmp_path / "state") for name in SIZES | MORE]
    done = federation(tmp_path / "run", devices, **masked)
    assert [r.updates for r in done.records] == [4] * 12
    assert all(record.groups.clip > 0 for record in done.records)
    assert done.accuracies[-1] > 0.85
    assert len(list((tmp_path / "state").iterdir())) == 4
