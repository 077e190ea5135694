"""The networks a federation can train, by name.

Every builder takes the shape of one input (channels, height, width) and the number of classes. A
new network is one file in ``fedjury.learning.networks``, or a function anywhere (``registry``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from fedjury import registry
from fedjury.randomness import Purpose, torch_stream
from fedjury.registry import Registry

InputShape = Sequence[int]

MODELS: Registry[nn.Module] = registry.MODELS


def build(
    name: str,
    input_shape: InputShape,
    classes: int,
    seed: int,
    purpose: Purpose = Purpose.MODEL,
) -> nn.Module:
    """Build a network whose first weights depend on ``seed`` and ``purpose`` alone.

    A network from elsewhere keeps the weights that its builder gives it, such as pretrained ones.

    Raises
    ------
    ValueError
        If no network has this name, or the input is too small for it.
    """
    MODELS.check(name, {})
    with torch_stream(seed, purpose):
        try:
            model = MODELS.build(name, input_shape, classes)
        except ValueError as why:
            raise ValueError(
                f"model {name!r} cannot take inputs of {tuple(input_shape)}: {why}"
            ) from why
        if name in MODELS.own:
            _initialise(model)
    return model.eval()


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
