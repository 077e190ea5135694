"""The model of a run as a file for others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.federation import one_thread  # noqa: F401 - a fixture
from torch import nn

import fedjury
from fedjury.aggregator.durable_files import StoreError
from fedjury.config.settings import SettingsError
from fedjury.federation.export import main

pytestmark = pytest.mark.usefixtures("one_thread")


class Net(nn.Module):
    """A network whose first layer is frozen."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.body.requires_grad_(False)

    def forward(self, x):
        """Take rows of four numbers."""
        return self.head(torch.relu(self.body(x)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run: the bias of its head is 1, 2, 3 more after its rounds."""
    device = fedjury.Device("a", model=Net(), say=lambda _: None)

    @device.train
    def train(model, turn):
        with torch.no_grad():
            model.head.bias += 1
        return fedjury.Trained(3)

    device.evaluate(lambda model, turn: fedjury.Metrics(3, rmse=turn.round))
    folder = tmp_path_factory.mktemp("runs")
    made = fedjury.simulate(
        [device], model=Net(), rounds=3, folder=folder, name="net", best="-rmse"
    )
    return made.folder


def exported(run, tmp_path, *flags):
    """Export it; returns the file."""
    file = tmp_path / "out"
    assert main([str(run), "--out", str(file), *flags], "fedjury export") == 0
    return file


def test_safetensors_hold_what_was_trained_by_name(run, tmp_path, capsys):
    """The frozen layer did not travel; the last version is the third."""
    tensors = load_file(exported(run, tmp_path))
    assert set(tensors) == {"head.weight", "head.bias"}
    np.testing.assert_allclose(tensors["head.bias"], Net().head.bias.detach() + 3, rtol=1e-6)
    assert "version 3 of run 'net'" in capsys.readouterr().out


def test_the_best_model_is_that_of_the_metric(run, tmp_path):
    """The lowest figure was that of the first round."""
    bias = load_file(exported(run, tmp_path, "--best"))["head.bias"]
    np.testing.assert_allclose(bias, Net().head.bias.detach() + 1, rtol=1e-6)


def test_a_state_dict_is_whole_where_the_network_is_named(run, tmp_path):
    """Frozen layers come from the network's own class; without it there is what was trained."""
    name = f"{__name__}:Net"
    whole = torch.load(exported(run, tmp_path, "--to", "torch", "--model", name))
    assert set(whole) == set(Net().state_dict())
    part = torch.load(exported(run, tmp_path, "--to", "torch"))
    assert set(part) == {"head.weight", "head.bias"}
    torch.testing.assert_close(part["head.bias"], whole["head.bias"])


@pytest.mark.slow
def test_onnx_answers_as_the_network_does(run, tmp_path):
    """For any number of rows, within rounding."""
    reference = pytest.importorskip("onnx.reference")
    flags = ("--to", "onnx", "--model", f"{__name__}:Net", "--input", "4")
    file = exported(run, tmp_path, *flags)
    network = Net()
    with torch.no_grad():
        network.head.bias += 3
    rows = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    session = reference.ReferenceEvaluator(str(file))
    [answers] = session.run(None, {session.input_names[0]: rows})
    np.testing.assert_allclose(answers, network(torch.from_numpy(rows)).detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--to", "onnx"), "which shape has one input"),
        (("--to", "onnx", "--input", "0"), "--input 0 must be whole numbers from 1 on"),
        (("--to", "torch", "--model", "nowhere:Net"), "nowhere"),
        (("--to", "torch", "--model", "torch.nn:Flatten"), "is not the run's"),
    ],
)
def test_what_cannot_be_is_a_sentence(run, tmp_path, flags, said):
    """No traceback, and no file."""
    with pytest.raises(SettingsError, match=said):
        exported(run, tmp_path, *flags)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_run_is_a_sentence(tmp_path):
    """As is a run of which no best model was kept."""
    with pytest.raises(StoreError, match="holds no run"):
        exported(tmp_path, tmp_path)
