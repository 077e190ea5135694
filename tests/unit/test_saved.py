"""First weights from a file: what is read, and the reason why something else is not."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from fedjury.aggregator.store import RunStore
from fedjury.learning import models
from fedjury.learning.saved import read_weights
from fedjury.learning.weights import flatten, variances
from fedjury.protocol.messages import Model
from fedjury.protocol.record import RoundRecord


def network(seed=0):
    """Build the network of all these tests: 64 -> 32 -> 10, in layers 1 and 3."""
    return models.build("mlp", (1, 8, 8), 10, seed)


class Net(nn.Module):
    """The same network as somebody else would write it."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 32), nn.Linear(32, 10)


def named(state, prefix):
    """Put a prefix in front of all names."""
    return {prefix + name: value for name, value in state.items()}


STATE = network(1).state_dict()

AS_NET = dict(zip(Net().state_dict(), STATE.values(), strict=True))
"""The same weights under the names fc1.weight, fc1.bias, fc2.weight, fc2.bias."""


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(named(STATE, "module.")),
        named(STATE, "_orig_mod."),
        named(STATE, "_orig_mod.module.model."),
        {"n_averaged": torch.tensor(7), **named(STATE, "module.")},
        {"state_dict": STATE},
        {"epoch": 3, "model_state_dict": named(STATE, "module."), "optimizer": {"state": {}}},
        {"epoch": torch.tensor(3), "model": {"state_dict": STATE}},
        {"model": {"name": "mlp"}, "net": STATE},
        {name: value.double() for name, value in STATE.items()},
        {name: nn.Parameter(value) for name, value in STATE.items()},
        AS_NET,
        {"state_dict": named(AS_NET, "net.")},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_however_they_were_saved(tmp_path, content, zipped):
    """Wrappers' prefixes, tables around them, other names and types: the same 2,410 numbers."""
    file = tmp_path / "some.pth"
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    model = network()
    np.testing.assert_array_equal(read_weights(file, model), flatten(network(1)))
    np.testing.assert_array_equal(flatten(model), flatten(network(1)))


@pytest.mark.parametrize("state", [STATE, AS_NET, named(STATE, "module.")])
def test_safetensors_are_read(tmp_path, state):
    """They list tensors by name, biases before weights; each goes where it belongs."""
    file = tmp_path / "some.safetensors"
    safetensors.torch.save_file(state, file)
    np.testing.assert_array_equal(read_weights(file, network()), flatten(network(1)))


def test_layers_are_sorted_by_their_numbers(tmp_path):
    """Of eleven equal layers that are named otherwise, the tenth comes after the second."""
    state = {f"block.{i}.weight": torch.full((1, 1), float(i)) for i in range(11)}
    file = tmp_path / "some.safetensors"
    safetensors.torch.save_file(state, file)
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(11)))
    assert read_weights(file, model).tolist() == list(range(11))


def test_weights_trained_on_a_gpu_are_read_without_one(tmp_path, monkeypatch):
    """A file whose tensors are said to lie on a GPU that this machine lacks."""
    file = tmp_path / "gpu.pth"
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    torch.save(STATE, file)
    monkeypatch.undo()
    assert b"cuda:0" in file.read_bytes()
    np.testing.assert_array_equal(read_weights(file, network()), flatten(network(1)))


def left_by_a_run(folder, tensors):
    """Let a run's store write a model of the network, beside a manifest; returns its file."""
    store = RunStore(folder, keep=2)
    store.save(Model(30, flatten(network(1))), RoundRecord(30, version=30))
    store.describe({"settings": {}, "manifest": {"tensors": tensors}})
    return folder / "models" / "000030.safetensors"


def test_a_model_that_a_run_left_is_read(tmp_path):
    """models/000030.safetensors holds one vector, in the order of the manifest's tensors."""
    layout = [[name, list(value.shape)] for name, value in STATE.items()]
    file = left_by_a_run(tmp_path, layout)
    np.testing.assert_array_equal(read_weights(file, network()), flatten(network(1)))
    (tmp_path / "manifest.json").unlink()
    np.testing.assert_array_equal(read_weights(file, network()), flatten(network(1)))


def test_a_run_of_another_network_is_told_by_its_manifest(tmp_path):
    """2,410 numbers fit, but what they mean does not."""
    file = left_by_a_run(tmp_path, [["0.weight", [2410]]])
    with pytest.raises(ValueError, match=r"manifest\.json names another network's tensors"):
        read_weights(file, network())


def saved(content, **options):
    """Return what torch writes of something."""
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive():
    """Return a file of arrays, which is a zip archive like PyTorch's."""
    file = io.BytesIO()
    np.savez(file, a=np.zeros(3))
    return file.getvalue()


def script():
    """Return what PyTorch takes for a program that it compiled: an archive with constants."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, data in (("data.pkl", b""), ("constants.pkl", b""), ("version", b"3")):
            made.writestr(f"m/{name}", data)
    return file.getvalue()


OLD = {"_use_new_zipfile_serialization": False}
LATER = STATE | {"1.weight": torch.full((32, 64), torch.nan)}
FLAT = {"weights": np.zeros(2410, np.float32)}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "it is not a saved state dict"),
        (b"\x89HDF\r\n\x1a\n rest", "it is not a saved state dict"),
        (archive(), "it is not a saved state dict"),
        (pickle.dumps({"a": 1}), "it is not a saved state dict"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "fetch the file itself with git lfs"),
        (saved(STATE)[:4000], "it is damaged or cut short"),
        (saved(STATE, **OLD)[:4000], "it is damaged or cut short"),
        (script(), "it is a TorchScript program; save model.state_dict() instead"),
        (saved(network()), "it holds more than weights (torch.nn.modules.container.Sequential)"),
        (saved(network(), **OLD), "(torch.nn.modules.container.Sequential), and reading that"),
        (saved([1, 2]), "it holds a list, not a state dict"),
        (saved(torch.zeros(3)), "it holds a Tensor, not a state dict"),
        (saved({}), "there are no weights in it, but nothing"),
        (saved({"epoch": 3, "loss": 0.1}), "there are no weights in it, but epoch, loss"),
        (saved({"1.weight": torch.zeros(3, 3)}), "1.weight is (3, 3), not (32, 64)"),
        (saved(nn.Linear(64, 10).state_dict()), "lacks 1.weight, 1.bias, 3.weight and 1 more and"),
        (saved(STATE | {"5.bias": torch.zeros(2)}), "another network's: it has 5.bias besides"),
        (saved({k: v.sign().int() for k, v in STATE.items()}), "whole numbers; it may be quantis"),
        (saved(STATE | {"1.weight": torch.zeros(3).to_sparse()}), "1.weight is not a plain tensor"),
        (
            saved(STATE | {"1.weight": torch.zeros(3, device="meta")}),
            "1.weight is not a plain tens",
        ),
        (saved(LATER), "2,048 of its 2,410 values are NaN or infinite"),
        (
            saved(STATE | {"3.bias": torch.full((10,), 1e300, dtype=torch.float64)}),
            "10 of its 2,410 values are NaN or infinite",
        ),
        (safetensors.numpy.save(FLAT)[:-4], "it is a damaged safetensors file ("),
        (
            safetensors.numpy.save({"weights": np.zeros(2409, np.float32)}),
            "another network's: 2,409 values, not 2,410",
        ),
        (
            safetensors.numpy.save({"weights": np.full(2410, np.inf, np.float32)}),
            "2,410 of its 2,410 values are NaN or infinite",
        ),
    ],
)
def test_every_other_file_is_refused_with_its_own_reason(tmp_path, data, reason):
    """Damaged, foreign or useless files are one sentence with the file's name; nothing changes."""
    file = tmp_path / "weights.pth"
    file.write_bytes(data)
    model = network()
    with pytest.raises(ValueError, match=r"weights\.pth does not hold weights of this") as error:
        read_weights(file, model)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(flatten(model), flatten(network()))


def test_a_file_that_cannot_be_opened(tmp_path):
    """The system's own reason is told."""
    with pytest.raises(ValueError, match="there is no such file"):
        read_weights(tmp_path / "nowhere.pth", network())
    with pytest.raises(ValueError, match="Is a directory"):
        read_weights(tmp_path, network())


def test_running_variances_below_zero_are_refused(tmp_path):
    """A variance cannot be negative: such a model would answer NaN."""
    model = models.build("resnet18", (3, 8, 8), 4, seed=0)
    state = model.state_dict()
    assert (
        len(variances(model))
        == 2400
        == sum(len(v) for k, v in state.items() if k.endswith("running_var"))
    )
    state["1.running_var"][:3] = -0.5
    torch.save(state, tmp_path / "some.pth")
    with pytest.raises(ValueError, match="3 running variances of its batch norm are below zero"):
        read_weights(tmp_path / "some.pth", model)
