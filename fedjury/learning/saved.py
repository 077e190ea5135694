"""First weights from a file that somebody saved: PyTorch's, safetensors', or a model of a run.

Nothing is unpickled. A file that does not hold the wanted network's weights is refused with the
reason, before anything starts.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from fedjury.learning.weights import Tensor, Vector, flatten, load, tensors, variances

State = dict[str, torch.Tensor]

FLAT = "weights"
"""The one tensor in a file of ``runs/<run>/models``: all parameters, flat."""

TABLES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
)
"""Names under which training programs keep the weights beside other things."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and wrappers put in front of every name."""

DEPTH = 3
"""Tables in tables that are looked into."""

SHOWN = 3
"""Names that a sentence lists at most."""


def read_weights(file: Path, model: nn.Module) -> Vector:
    """Load weights from a file into a model and return them as a vector (d,).

    The file is a state dict as ``torch.save`` writes it (alone or in a table, also from a GPU, from
    DataParallel or a compiled model), one in safetensors, or a model that a run left
    (``runs/<run>/models/000030.safetensors``). Other names will do if the tensors, in their
    order, have the model's shapes.

    Raises
    ------
    ValueError
        If the file is missing, damaged, holds something else, belongs to another network, or holds
        values that no model can work with; the message says which.
    """
    try:
        result = _fitted(_read(file), model, file)
        _check_values(result, model)
    except ValueError as why:
        raise ValueError(f"{file} does not hold weights of this model: {why}") from why
    load(model, result)
    return flatten(model)


def _read(file: Path) -> State:
    """Return the tensors that a file holds, by name."""
    try:
        data = file.read_bytes()
    except FileNotFoundError as why:
        raise ValueError(
            "there is no such file; 'python -m fedjury.learning.classifier' makes classifier.pth, "
            "and runs keep theirs in runs/NAME/models/"
        ) from why
    except OSError as why:
        raise ValueError(f"it cannot be read: {why.strerror or why}") from why
    if not data:
        raise ValueError("it is empty")
    if data.startswith(b"version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer; fetch the file itself with git lfs pull")
    if data[8:9] == b"{":
        return _read_safetensors(data)
    content = _read_torch(data)
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise ValueError(f"it holds a {kind}, not a state dict; save model.state_dict()")  # noqa: TRY004
    if not (result := _named(content, DEPTH)):
        raise ValueError(f"there are no weights in it, but {_listed(map(str, content))}")
    return result


def _read_safetensors(data: bytes) -> State:
    """Return the tensors of a safetensors file, which keeps no order: layer by layer."""
    try:
        state = safetensors.torch.load(data)
        return {name: state[name] for name in sorted(state, key=_place)}
    except Exception as why:  # of safetensors or PyTorch
        raise ValueError(f"it is a damaged safetensors file ({_first_line(why)})") from why


def _read_torch(data: bytes) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of what we refuse below
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as why:  # torch raises half a dozen kinds, some without a word
        raise ValueError(_why_unreadable(data, str(why))) from why


def _why_unreadable(data: bytes, text: str) -> str:
    """Say why PyTorch could not read a file, from its bytes and what PyTorch said."""
    if "TorchScript" in text:
        return "it is a TorchScript program; save model.state_dict() instead"
    if foreign := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it holds more than weights ({foreign[1]}), and reading that could run code; "
            "save model.state_dict() and nothing else"
        )
    if data.startswith(b"PK"):
        damaged = "central directory" in text or "zip" in text
        return "it is damaged or cut short" if damaged else "it is not a saved state dict"
    old = data.startswith(b"\x80") and b"l\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in data[:32]
    return "it is damaged or cut short" if old else "it is not a saved state dict"


def _named(content: Mapping[Any, Any], depth: int) -> State:
    """Find the named tensors in a table: itself, or a table in it; empty if there are none."""
    inner = [content[name] for name in TABLES if isinstance(content.get(name), Mapping)]
    for table in inner if depth else ():
        if result := _named(table, depth - 1):
            return result
    return {str(name): v for name, v in content.items() if isinstance(v, torch.Tensor)}


def _fitted(state: State, model: nn.Module, file: Path) -> Vector:
    """Put the tensors of a file into the order of a model's vector, (d,)."""
    layout = tensors(model)
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_complex():
            raise ValueError(f"{name} is not a plain tensor of numbers")
    if set(state) == {FLAT} and state[FLAT].ndim == 1:
        return _fitted_flat(state[FLAT], layout, file)
    state = _stripped(state, {tensor.name for tensor in layout})
    fixed = model.state_dict().keys() - {tensor.name for tensor in layout}
    state = {name: value for name, value in state.items() if name not in fixed}
    chosen = _by_name(state, layout) or _by_shape(state, layout)
    if chosen is None:
        raise ValueError(f"they are another network's: {_difference(state, layout)}")
    whole = [t.name for t, v in zip(layout, chosen, strict=True) if not v.is_floating_point()]
    if whole:
        raise ValueError(f"{_listed(whole)} holds whole numbers; it may be quantised")
    return _vector(torch.cat([value.reshape(-1).float() for value in chosen]))


def _fitted_flat(weights: torch.Tensor, layout: tuple[Tensor, ...], file: Path) -> Vector:
    """Take a model of a run, if that run's network is this one."""
    size = sum(tensor.size for tensor in layout)
    theirs = _layout_beside(file)
    if theirs is not None and theirs != layout:
        raise ValueError("its run's manifest.json names another network's tensors")
    if len(weights) != size or not weights.is_floating_point():
        raise ValueError(f"they are another network's: {len(weights):,} values, not {size:,}")
    return _vector(weights)


def _layout_beside(file: Path) -> tuple[Tensor, ...] | None:
    """Return the tensors of the run in whose folder a model lies, if its manifest can be read."""
    try:
        message = json.loads((file.parent.parent / "manifest.json").read_bytes())
        return tuple(Tensor(name, tuple(shape)) for name, shape in message["manifest"]["tensors"])
    except (AttributeError, OSError, ValueError, KeyError, TypeError):
        return None


def _stripped(state: State, wanted: Iterable[str]) -> State:
    """Take away what wrappers put in front of all names, until names are the wanted ones."""
    wanted = set(wanted)
    while not wanted <= state.keys():
        names = [name for name, value in state.items() if value.is_floating_point()]
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None)
        if prefix is None or not names:
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _by_name(state: State, layout: tuple[Tensor, ...]) -> list[torch.Tensor] | None:
    """Return the tensors by their names, if these and the shapes are the model's."""
    floating = {name for name, value in state.items() if value.is_floating_point()}
    names = {tensor.name for tensor in layout}
    if not floating <= names or not names <= state.keys():
        return None
    result = [state[tensor.name] for tensor in layout]
    return result if _same_shapes(result, layout) else None


def _by_shape(state: State, layout: tuple[Tensor, ...]) -> list[torch.Tensor] | None:
    """Return the tensors in their order, if the shapes are the model's.

    A state dict lists layers as they are defined.
    """
    result = [value for value in state.values() if value.is_floating_point()]
    return result if _same_shapes(result, layout) else None


def _place(name: str) -> tuple[list[tuple[str, int]], bool, str]:
    """Sort key: the layer, its numbers as numbers, then its weights before its biases."""
    layer, _, part = name.rpartition(".")
    numbers = [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", layer)]
    return numbers, part != "weight", part


def _same_shapes(result: list[torch.Tensor], layout: tuple[Tensor, ...]) -> bool:
    return [tuple(value.shape) for value in result] == [tensor.shape for tensor in layout]


def _difference(state: State, layout: tuple[Tensor, ...]) -> str:
    """Say in a few words how a state dict differs from a model."""
    shapes = {tensor.name: tensor.shape for tensor in layout}
    for name in shapes.keys() & state.keys():
        if tuple(state[name].shape) != shapes[name]:
            return f"{name} is {tuple(state[name].shape)}, not {shapes[name]}"
    if missing := [name for name in shapes if name not in state]:
        return f"it lacks {_listed(missing)} and has {_listed(state)}"
    return f"it has {_listed([name for name in state if name not in shapes])} besides"


def _check_values(weights: Vector, model: nn.Module) -> None:
    """Refuse values that no model can work with."""
    if broken := int(np.count_nonzero(~np.isfinite(weights))):
        raise ValueError(f"{broken:,} of its {len(weights):,} values are NaN or infinite")
    if below := int(np.count_nonzero(weights[variances(model)] < 0)):
        raise ValueError(f"{below:,} running variances of its batch norm are below zero")


def _vector(values: torch.Tensor) -> Vector:
    return np.array(values.detach().to(torch.float32).numpy())


def _listed(names: Iterable[str]) -> str:
    """Name a few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:SHOWN])
    return (shown + more) or "nothing"


def _first_line(why: Exception) -> str:
    return next(iter(str(why).splitlines()), type(why).__name__)
