"""The model that a run left, in formats that others read."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import safe_open
from safetensors.numpy import load as load_tensors
from torch import nn

from fedjury.aggregator.best import BEST
from fedjury.aggregator.durable_files import StoreError, damaged, readable, replace
from fedjury.aggregator.manifest import settings_in
from fedjury.aggregator.store import RunStore
from fedjury.config.settings import SettingsError
from fedjury.learning import models, weights
from fedjury.learning.named_weights import as_safetensors, named
from fedjury.learning.own_model import Layout, difference
from fedjury.protocol.messages import Vector

WANTED = ("onnx", "onnxscript")
"""Packages that write ONNX files."""


@dataclass(frozen=True, eq=False)
class Kept:
    """A model of a run, and what is known of its network."""

    run: str
    version: int
    weights: Vector
    """(d,)"""
    layout: Layout
    network: str
    """The network's name in the settings."""
    shape: tuple[int, ...]
    """Of one input; empty where the aggregator did not know."""
    outputs: int
    seed: int


def kept_in(folder: Path, *, best: bool = False) -> Kept:
    """Return the last accepted model of the run in a folder, or its best one.

    Raises
    ------
    StoreError
        If there is no run, or no best model, or a file is damaged.
    """
    if not (folder / "manifest.json").exists():
        raise StoreError(f"{folder} holds no run: it has no manifest.json")
    store = RunStore(folder, keep=10**9)
    content = store.described() or {}
    settings = settings_in(folder, content)
    try:
        manifest = content["manifest"]
        layout = tuple((name, tuple(shape)) for name, shape in manifest["tensors"])
        shape, outputs = tuple(manifest["input_shape"]), manifest["classes"]
    except (KeyError, TypeError, ValueError) as why:
        raise damaged(folder / "manifest.json", "it does not say what the model is") from why
    version, vector = _best(folder, layout) if best else _last(store, folder)
    return Kept(
        str(settings["run.name"]),
        version,
        vector,
        layout,
        str(settings["model.name"]),
        shape,
        outputs or 1,
        int(settings["run.seed"]),
    )


def _last(store: RunStore, folder: Path) -> tuple[int, Vector]:
    model = store.newest()
    if model is None:
        raise StoreError(f"{folder} holds no model")
    return model.version, model.weights


def _best(folder: Path, layout: Layout) -> tuple[int, Vector]:
    file = folder / BEST
    if not file.exists():
        raise StoreError(f"{folder} has no {BEST}: no metric was named as evaluation.best")
    try:
        arrays = load_tensors(readable(file).read_bytes())
        with safe_open(file, "numpy") as opened:
            version = int((opened.metadata() or {})["version"])
        flat = [torch.from_numpy(arrays[name]).reshape(-1) for name, _ in layout]
    except Exception as why:  # of safetensors, or what is missing in it
        raise damaged(file, why) from why
    return version, torch.cat(flat).numpy()


def shape_of(text: str | None, kept: Kept) -> tuple[int, ...]:
    """Return the shape of an input that was given as text, else the run's.

    Raises
    ------
    SettingsError
        If it is none.
    """
    if text is None:
        return kept.shape
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise SettingsError(f"--input {text} must be whole numbers from 1 on, like 1,28,28")
    return shape


def to_safetensors(kept: Kept, file: Path, _model: str | None, _shape: tuple[int, ...]) -> None:
    """Write what is trained of the model, a tensor a name; ``--init`` reads it, too."""
    notes = {"run": kept.run, "version": str(kept.version)}
    replace(file, as_safetensors(kept.weights, kept.layout, notes))


def to_torch(kept: Kept, file: Path, model: str | None, shape: tuple[int, ...]) -> None:
    """Write a state dict; of all tensors if the network can be built, else of those trained."""
    try:
        state = network(kept, model, shape).state_dict()
    except ValueError:
        if model is not None:
            raise
        arrays = named(kept.weights, kept.layout)
        state = {name: torch.from_numpy(value) for name, value in arrays.items()}
    written = io.BytesIO()
    torch.save(state, written)
    replace(file, written.getvalue())


def to_onnx(kept: Kept, file: Path, model: str | None, shape: tuple[int, ...]) -> None:
    """Write network and weights as ONNX, for any number of inputs at a time.

    Raises
    ------
    SettingsError
        If packages are missing, the network cannot be built, or nobody knows its inputs.
    """
    if missing := [name for name in WANTED if find_spec(name) is None]:
        raise SettingsError(f"ONNX needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    if not shape:
        raise SettingsError("which shape has one input? say it, like --input 1,28,28")
    built = network(kept, model, shape)
    try:
        data = _as_onnx(built, torch.zeros(2, *shape))
    except Exception as why:
        text = " ".join(str(why).split())[:300]
        raise SettingsError(f"the network cannot be written as ONNX: {text}") from why
    replace(file, data)


def _as_onnx(built: nn.Module, example: torch.Tensor) -> bytes:
    """Return a network as an ONNX file that takes any number of inputs like the example's."""
    many = torch.export.Dim("n")
    with warnings.catch_warnings(action="ignore"), TemporaryDirectory() as folder:
        program = torch.onnx.export(
            built, (example,), dynamo=True, dynamic_shapes=({0: many},), verbose=False
        )
        assert program is not None
        file = Path(folder) / "model.onnx"
        program.save(file)
        return file.read_bytes()


def network(kept: Kept, model: str | None, shape: tuple[int, ...]) -> nn.Module:
    """Build the run's network with the run's weights in it.

    Raises
    ------
    SettingsError
        If it cannot be built, or has other tensors than the run's.
    """
    name = model or kept.network
    try:
        built = models.build(name, shape or kept.shape, kept.outputs, seed=kept.seed)
    except (ValueError, TypeError) as why:
        raise SettingsError(f"{why}; name the network with --model package.module:name") from why
    layout = tuple((tensor.name, tensor.shape) for tensor in weights.tensors(built))
    if text := difference(layout, kept.layout):
        raise SettingsError(f"model {name!r} is not the run's: {text}")
    weights.load(built, kept.weights)
    return built
