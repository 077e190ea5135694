"""What a device's own functions are given, and what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedjury.protocol.checks import MAX_METRIC, MAX_METRICS
from fedjury.protocol.messages import MAX_COUNT, Abilities, Manifest


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


def number(value: Any) -> float:
    """Return a number of Python, NumPy or PyTorch, also one that gradients hang on."""
    return float(value.detach() if hasattr(value, "detach") else value)


@dataclass(frozen=True)
class Trained:
    """What came of training: on how many samples, and figures by name.

    With ``samples`` 0 the device sits the round out.
    """

    samples: int
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take numbers of NumPy and PyTorch, too."""
        object.__setattr__(self, "samples", int(self.samples))
        plain = {name: number(value) for name, value in self.metrics.items()}
        object.__setattr__(self, "metrics", plain)


class Metrics:
    """How good a model is on a device's data: on how many samples, and figures by name.

    With ``predictions`` and ``targets``, both (n,), the device can also vote: on classes that the
    run knows by the errors of each, on numbers by how many lie above and below each bin of targets.
    Where the server has no data it knows no classes: then each is a bin, if both are whole numbers.
    """

    def __init__(
        self,
        samples: int,
        *,
        predictions: npt.ArrayLike | None = None,
        targets: npt.ArrayLike | None = None,
        **values: float,
    ) -> None:
        self.samples = int(samples)
        self.values = {name: number(value) for name, value in values.items()}
        self.predictions = None if predictions is None else _flat(predictions)
        self.targets = None if targets is None else _flat(targets)

    def figures(self) -> dict[str, float]:
        """Return the figures by name: its own, and accuracy or RMSE where answers are there."""
        if self.predictions is None or self.targets is None or not self.targets.size:
            return self.values
        if np.issubdtype(self.targets.dtype, np.integer):
            return {"accuracy": float(np.mean(self.predictions == self.targets))} | self.values
        with np.errstate(invalid="ignore", over="ignore"):
            errors = self.predictions.astype(np.float64) - self.targets
            rmse = float(np.sqrt(np.mean(errors**2)))
        # A model that answers NaN is voted on all the same, by its predictions.
        return ({"rmse": rmse} if isfinite(rmse) else {}) | self.values

    def flaw(self) -> str:
        """Return what is wrong with it; empty if nothing is."""
        if not isinstance(self.samples, int) or not 0 <= self.samples <= MAX_COUNT:
            return f"returned samples={self.samples!r}"
        if self.predictions is not None and self.targets is not None:
            shapes = self.predictions.shape, self.targets.shape
            if shapes[0] != shapes[1] or len(shapes[1]) != 1:
                return (
                    f"returned predictions {shapes[0]} for targets {shapes[1]}; both must be (n,)"
                )
        return flaw_of_values(self.figures())


def _flat(values: Any) -> npt.NDArray[Any]:
    """Return values (n,), of (n, 1) too: a network for numbers has one output.

    Tensors may be on a GPU, or have gradients.
    """
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def flaw_of_values(values: Mapping[str, float]) -> str:
    """Return why figures cannot be sent, in words that follow a function's name; "" if they can."""
    if len(values) > MAX_METRICS:
        return f"returned {len(values)} figures, more than {MAX_METRICS}"
    for name, value in values.items():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= MAX_METRIC:
            return (
                f"returned a figure named {name!r}; names are 1 to {MAX_METRIC} printable letters"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return f"returned {name} = {value!r}, which is not a finite number"
    return ""


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

    @property
    def abilities(self) -> Abilities:
        """What the device can do with a candidate."""
        evaluates = self.evaluate is not None
        return Abilities(votes=evaluates or self.judge is not None, evaluates=evaluates)


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
