"""The networks a federation can train, by name.

Every builder takes the shape of one input (channels, height, width) and the number of classes. A
new network is one file in ``fedjury.learning.networks``, or a function anywhere (``registry``).
"""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Callable, Sequence

from torch import nn

from fedjury import registry
from fedjury.randomness import Purpose, torch_stream
from fedjury.registry import Registry, unknown

InputShape = Sequence[int]

MODELS: Registry[nn.Module] = registry.MODELS


def build(
    name: str,
    input_shape: InputShape,
    classes: int,
    seed: int,
    purpose: Purpose = Purpose.MODEL,
    trainable: Sequence[str] = (),
) -> nn.Module:
    """Build a network whose first weights depend on ``seed`` and ``purpose`` alone.

    A network from elsewhere keeps the weights that its builder gives it, such as pretrained ones.
    ``trainable``: names of parameters, also with ``*`` and ``?``; the others are frozen, and do not
    travel. None: as the builder leaves it.

    Raises
    ------
    ValueError
        If no network has this name, the input is too small for it, or no parameter has a name.
    """
    MODELS.check(name, {})
    with torch_stream(seed, purpose):
        try:
            given = (input_shape, classes) if takes_arguments(MODELS.resolve(name)) else ()
            model = MODELS.build(name, *given)
        except ValueError as why:
            raise ValueError(
                f"model {name!r} cannot take inputs of {tuple(input_shape)}: {why}"
            ) from why
        if name in MODELS.own:
            _initialise(model)
    train_only(model, trainable)
    return model.eval()


def takes_arguments(build: Callable[..., object]) -> bool:
    """Return whether a class or function must be given something: shape and outputs, then."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # of what is written in C
        return True
    return any(one.kind in kinds and one.default is one.empty for one in parameters)


def train_only(model: nn.Module, trainable: Sequence[str], where: str = "model.trainable") -> None:
    """Freeze the parameters that have none of these names; of no names, none.

    ``where``: what people have written the names into.

    Raises
    ------
    ValueError
        If no parameter has a name.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in trainable:
        if not fnmatch.filter(names, pattern):
            raise unknown(f"parameter in {where}", pattern, names)
    for name, parameter in model.named_parameters():
        if trainable and not any(fnmatch.fnmatchcase(name, pattern) for pattern in trainable):
            parameter.requires_grad_(False)


def _initialise(model: nn.Module) -> None:
    """Draw the weights of a network of ours as Glorot and Bengio (2010) do; all biases are zero.

    PyTorch's own default is so small that a federation with little data stands still for its
    first fifteen rounds; that of He et al. (2015) leaves one-channel networks dead from the start
    for some seeds.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def has_batch_norm(model: nn.Module) -> bool:
    """Say whether a network keeps running statistics, which one batch of agents cannot share."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())  # noqa: SLF001
