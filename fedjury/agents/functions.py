"""What a device's own functions are given, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedjury.protocol.messages import Manifest


@dataclass(frozen=True)
class Turn:
    """What a device is asked to do in a round."""

    round: int
    seed: int
    """For everything that is drawn in it; PyTorch's and NumPy's global generators begin with it."""
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    loss: str = ""
    """By name; empty: what is usual."""
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """What came of training: on how many samples, and figures by name.

    With ``samples`` 0 the device sits the round out.
    """

    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)


class Metrics:
    """How good a model is on a device's data: on how many samples, and figures by name.

    With ``predictions`` and ``targets``, both (n,), the device can also vote: on class numbers by
    the errors of each class, on other numbers by how many lie above and below each bin of targets.
    """

    def __init__(
        self,
        samples: int,
        *,
        predictions: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        **values: float,
    ) -> None:
        self.samples = samples
        self.values = {name: float(value) for name, value in values.items()}
        self.predictions = None if predictions is None else _flat(predictions)
        self.targets = None if targets is None else _flat(targets)


def _flat(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return values (n,), of (n, 1) too: a network for numbers has one output."""
    array = np.asarray(values)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


Train = Callable[[Any, Turn], Trained | int]
"""Model with the global weights in it, turn -> what came of it; the model is trained in place."""

Evaluate = Callable[[Any, Turn], Metrics]
"""Model, turn -> how good it is."""

Judge = Callable[[Any, Turn], bool]
"""The candidate, turn -> whether it is poisoned."""


class Trainer(Protocol):
    """What has a model, trains it and measures it, such as ``fedjury.TorchTrainer``."""

    def begin(self, manifest: Manifest) -> Any:
        """Return the model for a run; ``ValueError`` says why there is none."""

    def train(self, model: Any, turn: Turn) -> Trained:
        """Train the model in place."""

    def evaluate(self, model: Any, turn: Turn) -> Metrics:
        """Measure the model."""


@dataclass
class Functions:
    """The functions of a device, as far as it has them."""

    train: Train | None = None
    evaluate: Evaluate | None = None
    judge: Judge | None = None


class FunctionError(Exception):
    """What is wrong with a user's function, in a sentence that names it."""


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's function; what it raises becomes a sentence.

    Raises
    ------
    FunctionError
        If it raises anything but the end of the program.
    """
    try:
        return function(*arguments)
    except Exception as why:
        place = why.__traceback__.tb_next if why.__traceback__ else None
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" (line {place.tb_lineno} of {place.tb_frame.f_code.co_filename})" if place else ""
        raise FunctionError(f"{named(function)} raised {type(why).__name__}: {why}{where}") from why


def named(function: Callable[..., Any]) -> str:
    """Return how people find a function."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', '?')}.{name}"
