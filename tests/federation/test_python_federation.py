"""Federations in Python: ``Federation``, ``simulate`` and what they return."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.federation import one_thread  # noqa: F401 - a fixture
from torch import nn

import fedjury
from fedjury.config.settings import SettingsError
from fedjury.federation.durations import seconds_of
from fedjury.learning.saved import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def adding(name, number, samples=1, **figures):
    """Make a device that adds a number to the one weight there is, and says what it is told to."""
    device = fedjury.Device(name, say=lambda _: None)

    @device.train
    def train(model, turn):
        model["w"] += number
        return fedjury.Trained(samples, {"loss": number})

    @device.evaluate
    def evaluate(model, turn):
        return fedjury.Metrics(samples, w=float(model["w"][0]), **figures)

    return device


def one_weight():
    return {"w": np.zeros(1)}


def simulated(*those, rounds=1, **given):
    return fedjury.simulate(those, model=one_weight(), rounds=rounds, **given)


def test_updates_are_weighted_by_samples_by_hand():
    """(10 x 1 + 30 x 5) / 40 = 4 a round: after two rounds the weight is 8."""
    result = simulated(adding("a", 1, 10), adding("b", 5, 30), rounds=2)
    assert result.state_dict()["w"].tolist() == [8]
    assert [row["w"] for row in result.history] == [4, 8]


def test_the_end_says_what_was_measured_at_last_and_at_best():
    """The weight goes 3, 6: an error that rises with it is best after the first round."""
    said = []
    device = adding("a", 3)

    @device.evaluate
    def evaluate(model, turn):
        return fedjury.Metrics(1, rmse=float(model["w"][0]))

    simulated(device, rounds=2, say=said.append)
    assert said[-1] == "rmse 6, by 1 agent; best 3 in round 1"


def test_all_devices_count_the_same_where_that_is_asked():
    """(1 + 5) / 2 = 3."""
    result = simulated(adding("a", 1, 10), adding("b", 5, 30), weigh="equal")
    assert result.state_dict()["w"].tolist() == [3]


def test_a_row_a_round_and_a_row_a_round_and_device():
    """What devices measure of a candidate stands beside what they measured while training."""
    result = simulated(adding("a", 1, 10, rmse=1.0), adding("b", 5, 30, rmse=2.0))
    [row] = result.history
    assert (row["rmse"], row["train_loss"], row["updates"], row["accepted"]) == (1.75, 4, 2, True)
    assert [(r["device"], r["samples"], r["train_loss"], r["rmse"]) for r in result.devices] == [
        ("a", 10, 1, 1.0),
        ("b", 30, 5, 2.0),
    ]


def test_what_nobody_measures_is_not_known():
    """Devices without an evaluate function, a server without data: no accuracy, not 0."""
    device = fedjury.Device("a", say=lambda _: None)
    device.train(lambda model, turn: fedjury.Trained(3))
    result = simulated(device)
    assert result.records[0].model.accuracy is None
    assert "server_accuracy" not in result.history[0]
    assert not result.records[0].model.metrics


def test_the_best_model_by_a_metric_is_kept_by_the_names_of_its_tensors(tmp_path):
    """The weight goes 4, 8, 12; the lowest is the first, the highest the last."""
    devices = adding("a", 4, 10), adding("b", 4, 30)
    for best, expected in ((("-w"), 4), ("w", 12)):
        result = simulated(*devices, rounds=3, best=best, folder=tmp_path / best)
        assert result.best_state_dict()["w"].tolist() == [expected]
        assert load_file(result.folder / "best.safetensors")["w"].tolist() == [expected]


def test_without_a_metric_no_model_is_the_best(tmp_path):
    """Asked for all the same, it says that there is no such file."""
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors"):
        simulated(adding("a", 1), folder=tmp_path).best_state_dict()


def test_a_device_that_sits_out_is_not_waited_for():
    """With 0 samples it trains nothing; the others' round goes on at once."""
    result = simulated(adding("a", 1, 0), adding("b", 5, 3), rounds=2)
    assert [row["updates"] for row in result.history] == [1, 1]
    assert all(row["seconds"] < 5 for row in result.history)


def test_rounds_an_hour_apart_take_no_hour_in_a_simulation():
    """Three rounds, which begin an hour apart by the clock of the round."""
    result = simulated(adding("a", 1), rounds=3, every="1h")
    assert result.rounds == 3
    assert result.state_dict()["w"].tolist() == [3]


def test_a_run_resumes_in_its_folder_bit_for_bit(tmp_path):
    """Two rounds and then two more are the same as four."""
    devices = adding("a", 0.1, 10), adding("b", 0.7, 30)
    whole = simulated(*devices, rounds=4, folder=tmp_path / "whole")
    simulated(*devices, rounds=2, folder=tmp_path / "half")
    half = simulated(*devices, rounds=4, folder=tmp_path / "half")
    assert half.weights.tobytes() == whole.weights.tobytes()
    assert [row["round"] for row in half.history] == [1, 2, 3, 4]


def test_a_run_that_has_all_its_rounds_returns_what_they_came_to(tmp_path):
    """Started once more, it runs no further round."""
    first = simulated(adding("a", 1), rounds=2, folder=tmp_path)
    again = simulated(adding("a", 1), rounds=2, folder=tmp_path)
    assert again.history == first.history


def test_whoever_asks_is_told_of_each_round():
    """The record of round 1, then that of round 2."""
    told = []
    simulated(adding("a", 1), rounds=2, on_round=told.append)
    assert [(record.round, record.model.metrics["w"]) for record in told] == [(1, 1), (2, 2)]


def test_at_most_so_many_devices_are_selected():
    """Two of five train in each round; all five measure."""
    devices = [adding(f"d{i}", 1) for i in range(5)]
    result = simulated(*devices, rounds=2, devices=fedjury.Devices(min=2, max=2))
    assert [row["updates"] for row in result.history] == [2, 2]
    assert len(result.records[0].evaluated) == 5


def test_the_server_may_measure_with_data_of_its_own(tmp_path):
    """Its figures stand beside those of the devices, under names of their own."""
    where = "memory:measures"
    federation = fedjury.Federation("lab", where, model=one_weight(), folder=tmp_path)
    federation.evaluate(lambda model: {"rmse": 2 * float(model["w"][0]), "accuracy": 0.5})
    with federation.serving(1) as (_, state):
        assert state.model.quality.metrics == {"server_rmse": 0.0}
        assert state.model.quality.accuracy == 0.5


def test_devices_vote_on_numbers_of_their_own_judge():
    """Two of three find round 2's candidate poisoned: it is rejected, and the weight stays."""
    devices = [adding(name, 1) for name in "abc"]
    for device in devices:
        device.judge(lambda model, turn, name=device.name: turn.round == 2 and name != "c")
    result = simulated(*devices, rounds=3, validators=3)
    assert [row["accepted"] for row in result.history] == [True, False, True]
    assert [row["w"] for row in result.history] == [1, 1, 2]
    assert [(row["poisoned"], row["clean"]) for row in result.history] == [(0, 3), (2, 1), (0, 3)]


def test_pytorch_models_come_back_as_state_dicts_and_as_files_for_others(tmp_path):
    """Frozen layers are in the state dict; the file has what was trained, by name, for --init."""
    network, same = (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)) for _ in range(2))
    for one in (network, same):
        one[0].requires_grad_(False)
    same.load_state_dict(network.state_dict())
    device = fedjury.Device("a", model=same, say=lambda _: None)

    @device.train
    def train(model, turn):
        with torch.no_grad():
            model[1].bias += 1
        return fedjury.Trained(1)

    result = fedjury.simulate([device], model=network, rounds=2)
    state = result.state_dict()
    assert set(state) == set(network.state_dict())
    torch.testing.assert_close(state["1.bias"], network[1].bias.detach() + 2)
    assert torch.equal(state["0.weight"], network[0].weight)
    file = result.save(tmp_path / "trained.safetensors")
    assert set(load_file(file)) == {"1.weight", "1.bias"}
    read_weights(file, network)
    assert torch.equal(network[1].bias, state["1.bias"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rule": "nonsense"}, "unknown rule: 'nonsense'"),
        ({"weigh": "luck"}, "weigh='luck' must be 'samples' or 'equal'"),
        ({"rule": "median", "weigh": "samples"}, "decides itself what an update counts"),
        ({"deadline": "soon"}, "'soon' is no length of time"),
        ({"settings": {"collect.secnds": 3}}, "did you mean 'collect.seconds'"),
        ({"rule": "fltrust"}, "data.server"),
        ({"name": "a/b"}, "run.name"),
    ],
)
def test_what_cannot_be_is_said_at_once_in_a_sentence(given, said):
    """Before any device is asked for anything."""
    given = {"name": "lab"} | given
    with pytest.raises(ValueError, match=said):
        fedjury.Federation(given.pop("name"), "memory:lab", model=one_weight(), **given)


def test_two_devices_of_one_name_are_refused():
    """Their updates could not be told apart."""
    with pytest.raises(ValueError, match="names of their own"):
        simulated(adding("a", 1), adding("a", 2))


def test_a_federation_in_memory_says_what_to_use_instead(tmp_path):
    """Nobody could answer while it waits."""
    federation = fedjury.Federation("lab", "memory:lab", model=one_weight(), folder=tmp_path)
    with pytest.raises(Exception, match=r"fedjury\.simulate"):
        federation.run(1)


@pytest.mark.parametrize(
    ("text", "seconds"), [(30, 30), ("30", 30), ("1.5h", 5400), ("10m", 600), ("2d", 172800)]
)
def test_lengths_of_time(text, seconds):
    """As people write them."""
    assert seconds_of(text) == seconds


def test_a_thousand_devices_in_one_process():
    """Each is a device as in the field; their mean is (0 + 1 + ... + 999) / 1000."""
    devices = [adding(f"d{i:03d}", i) for i in range(1000)]
    result = simulated(*devices, rounds=2)
    assert result.history[0]["w"] == pytest.approx(499.5)
    assert [row["updates"] for row in result.history] == [1000, 1000]


NOISY = {"privacy.noise": 0.001, "privacy.clip": 2.0, "privacy.expected": 2}


def test_noise_on_the_sum_hides_devices():
    """(1 + 2) / 2, as 5 is cut to 2, but for noise of .001; what it cost is in each row."""
    devices = adding("a", 1, 10), adding("b", 5, 30)
    result = simulated(*devices, rounds=2, weigh="equal", settings=NOISY)
    [weight] = result.state_dict()["w"]
    assert weight == pytest.approx(3, abs=0.02)
    assert weight != 3
    first, second = (row["epsilon"] for row in result.history)
    assert 0 < first < second


def test_with_noise_samples_may_not_weigh():
    """Devices say themselves how many they have."""
    with pytest.raises(SettingsError, match="weighted"):
        simulated(adding("a", 1), settings=NOISY)
