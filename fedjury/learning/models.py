"""The networks a federation can train, by name.

Every builder takes the shape of one input (channels, height, width) and the number of classes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import nn

from fedjury.learning import tables

InputShape = Sequence[int]
Builder = Callable[[InputShape, int], nn.Module]


def build(name: str, input_shape: InputShape, classes: int, seed: int) -> nn.Module:
    """Build a network whose first weights depend on ``seed`` alone.

    Raises
    ------
    ValueError
        If no network has this name, or the input is too small for it.
    """
    if name not in MODELS:
        raise tables.unknown("model", name, MODELS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = MODELS[name](input_shape, classes)
        except ValueError as why:
            raise ValueError(
                f"model {name!r} cannot take inputs of {tuple(input_shape)}: {why}"
            ) from why
        _initialise(model)
    return model.eval()


def _initialise(model: nn.Module) -> None:
    """Draw weights as Glorot and Bengio (2010) do; all biases are zero.

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


def classifier(input_shape: InputShape, classes: int) -> nn.Module:
    """Build the user's classifier: two one-channel convolutions; 13,106 parameters on MNIST."""
    return _convolutional(input_shape, classes, channels=(1, 1), kernel=5, hidden=(120, 84))


def lenet(input_shape: InputShape, classes: int) -> nn.Module:
    """Build LeNet-5 as it is commonly written (LeCun et al. 1998); 44,426 parameters on MNIST."""
    return _convolutional(input_shape, classes, channels=(6, 16), kernel=5, hidden=(120, 84))


def cnn(input_shape: InputShape, classes: int) -> nn.Module:
    """Build the CNN of PoisonedFL's MNIST experiments; 139,960 parameters on MNIST."""
    return _convolutional(input_shape, classes, channels=(30, 50), kernel=3, hidden=(100,))


def mlp(input_shape: InputShape, classes: int) -> nn.Module:
    """Build one hidden layer of 32 units: for small inputs such as ``digits``, and for tests."""
    features = int(torch.Size(input_shape).numel())
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, classes))


def resnet18(input_shape: InputShape, classes: int) -> nn.Module:
    """Build the narrow ResNet-18 of Bagdasaryan et al. (2020): 32 planes, 2.8 M parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(input_shape[0], 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
    ]
    planes = 32
    for width, stride in ((32, 1), (64, 2), (128, 2), (256, 2)):
        layers += [ResidualBlock(planes, width, stride), ResidualBlock(width, width, 1)]
        planes = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut around them (He et al. 2016)."""

    def __init__(self, planes: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(planes, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or planes != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(planes, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, planes, h, w) to (n, width, h / stride, w / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


def _convolutional(
    input_shape: InputShape,
    classes: int,
    channels: Sequence[int],
    kernel: int,
    hidden: Sequence[int],
) -> nn.Module:
    """Chain convolution, ReLU, 2x2 pooling for each of ``channels``, then linear layers.

    Layers with weights are called conv1, conv2, ..., fc1, fc2, ..., as in PyTorch's tutorials and
    in the state dicts that people have.
    """
    planes, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, count in enumerate(channels, start=1):
        layers[f"conv{i}"] = nn.Conv2d(planes, count, kernel)
        layers[f"conv{i}_relu"], layers[f"conv{i}_pool"] = nn.ReLU(), nn.MaxPool2d(2)
        planes, height, width = count, (height - kernel + 1) // 2, (width - kernel + 1) // 2
        if min(height, width) < 1:
            raise ValueError("it is too small for the convolutions (try model 'mlp')")
    layers["flatten"] = nn.Flatten()
    features = planes * height * width
    for i, units in enumerate(hidden, start=1):
        layers[f"fc{i}"], layers[f"fc{i}_relu"] = nn.Linear(features, units), nn.ReLU()
        features = units
    layers[f"fc{len(hidden) + 1}"] = nn.Linear(features, classes)
    return nn.Sequential(layers)


MODELS: dict[str, Builder] = {
    "classifier": classifier,
    "lenet": lenet,
    "cnn": cnn,
    "mlp": mlp,
    "resnet18": resnet18,
}
