"""A model of the user's own as the vector that travels: a PyTorch module, or named NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedjury.randomness import torch_seeded

Vector = npt.NDArray[np.float32]
"""(d,): all that travels of a model, flat."""

Layout = tuple[tuple[str, tuple[int, ...]], ...]
"""Names and shapes of what travels, in order."""

Arrays = dict[str, npt.NDArray[np.float32]]
"""A model without PyTorch: name -> array, changed in place by who trains it."""


class OwnModel(Protocol):
    """A model whose weights can be read and replaced."""

    @property
    def layout(self) -> Layout:
        """What of it travels."""

    @property
    def model(self) -> Any:
        """What the user's functions are given."""

    @property
    def fixed(self) -> str:
        """A fingerprint of what does not travel; empty if everything does."""

    @property
    def variances(self) -> npt.NDArray[np.int64]:
        """Places of the vector that hold running variances, (k,)."""

    def load(self, weights: Vector) -> None:
        """Replace the weights by these, (d,)."""

    def read(self) -> Vector:
        """Copy the weights into one vector, (d,)."""

    def training(self, seed: int) -> AbstractContextManager[None]:
        """Let it be trained in the with-block; what it draws of itself begins at ``seed``."""


def own_model(model: Any) -> OwnModel:
    """Return a PyTorch module, or a mapping of names to arrays, as one of these.

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(model, Mapping):
        return ArrayModel({name: np.asarray(value) for name, value in model.items()})
    if hasattr(model, "state_dict"):
        return TorchModel(model)
    raise TypeError(
        "a model is a torch.nn.Module, or a dict of names and NumPy arrays; "
        f"this is of type {type(model).__name__}"
    )


class ArrayModel:
    """Named arrays, float32 whatever they were."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.model: Arrays = {
            name: np.array(value, dtype=np.float32) for name, value in arrays.items()
        }
        self.layout: Layout = tuple((name, value.shape) for name, value in self.model.items())
        self.variances = np.empty(0, np.int64)
        self.fixed = ""

    @classmethod
    def of_layout(cls, layout: Layout) -> ArrayModel:
        """Return zeros in these shapes."""
        return cls({name: np.zeros(shape, np.float32) for name, shape in layout})

    def load(self, weights: Vector) -> None:
        """Replace the weights by these, (d,)."""
        first = 0
        for name, shape in self.layout:
            size = int(np.prod(shape, dtype=np.int64))
            self.model[name] = np.array(weights[first : first + size]).reshape(shape)
            first += size

    def read(self) -> Vector:
        """Copy the weights into one vector, (d,).

        Raises
        ------
        ValueError
            If an array is missing, or has another shape than before.
        """
        for name, shape in self.layout:
            there = np.shape(self.model[name]) if name in self.model else None
            if there != shape:
                raise ValueError(f"array {name!r} has shape {there} after training, not {shape}")
        parts = [np.asarray(self.model[name], np.float32).ravel() for name, _ in self.layout]
        return np.concatenate(parts)

    def training(self, seed: int) -> AbstractContextManager[None]:  # noqa: ARG002 - no draws
        """Do nothing: arrays draw nothing of themselves."""
        return nullcontext()


class TorchModel:
    """A PyTorch module; see ``fedjury.learning.weights`` for what of it travels."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.layout: Layout = tuple((t.name, t.shape) for t in _weights().tensors(model))
        self.variances = _weights().variances(model)
        self.fixed: str = _weights().fixed(model)

    def load(self, weights: Vector) -> None:
        """Replace the weights by these, (d,); it is to be measured with, until it is trained."""
        _weights().load(self.model, weights)
        self.model.eval()

    def read(self) -> Vector:
        """Copy the weights into one vector, (d,)."""
        vector: Vector = _weights().flatten(self.model)
        return vector

    @contextmanager
    def training(self, seed: int) -> Iterator[None]:
        """Set the module to training; dropout and the like draw from ``seed`` on."""
        from fedjury.learning.training import begin_training  # noqa: PLC0415 - see _weights

        with torch_seeded(seed):
            begin_training(self.model)
            try:
                yield
            finally:
                self.model.eval()


def _weights() -> ModuleType:
    """Return what knows a module's weights: not every device has PyTorch."""
    from fedjury.learning import weights  # noqa: PLC0415

    return weights


def difference(ours: Layout, theirs: Layout, who: str = "this device") -> str:
    """Say how two models differ, in words for people; empty if they do not."""
    if ours == theirs:
        return ""
    for mine, other in zip(ours, theirs, strict=False):
        if mine != other:
            return f"the run has {described(other)} where {who} has {described(mine)}"
    return f"the run's model has {len(theirs)} tensors, {who}'s has {len(ours)}"


def described(tensor: tuple[str, tuple[int, ...]]) -> str:
    """Return a tensor's name and shape in words."""
    return f"{tensor[0]} {'x'.join(map(str, tensor[1])) or 'of one number'}"
