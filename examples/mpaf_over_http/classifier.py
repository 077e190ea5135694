"""What server and clients share: the network, its training and its test, and samples of MNIST.

It is a handful of names for what ``fedjury/learning/`` does.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from fedjury.learning import classifier, datasets, models
from fedjury.learning.classifier import EPOCHS, LEARNING_RATE, MOMENTUM, Samples
from fedjury.learning.datasets.dataset import Dataset

DATA = "mnist5k"
"""5,000 of MNIST's digits, 1,000 of them to test with; no download."""

ROOT = Path(__file__).resolve().parents[2]

SAVED = Path(__file__).with_name("classifier.pth")
"""The trained classifier with which the server starts."""


class Net(nn.Sequential):
    """The classifier: two (1, 1, 5) convolutions with (2, 2) pooling, and three linear layers.

    Layers with weights are called conv1, conv2, fc1, fc2 and fc3; ReLU is between them. A server
    that was started with another network says so, and ``load_model`` gives that.
    """

    def __init__(
        self,
        name: str = "classifier",
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        seed: int | None = None,
    ) -> None:
        """Draw the first weights from ``seed``, or else as ``torch.manual_seed`` says."""
        drawn = int(torch.randint(2**31, ())) if seed is None else seed
        built = models.build(name, input_shape, classes, drawn)
        super().__init__(OrderedDict(built.named_children()))
        self.eval()


def train_model(
    model: nn.Module,
    data_loader: Iterable[Samples],
    epoch: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
) -> list[float]:
    """Train a model with SGD and cross-entropy; returns the mean loss of each epoch."""
    with classifier.one_thread():
        return list(classifier.train_epochs(model, data_loader, epoch, learning_rate, momentum))


def test_model(model: nn.Module) -> float:
    """Return a model's accuracy on MNIST's test samples."""
    return classifier.test_model(model, dataset())


def random_dataloader(
    samples: int, data: str = DATA, seed: int | Sequence[int] | None = None
) -> DataLoader[Samples]:
    """Draw so many different samples of the training set, and return them in batches of four.

    ``ValueError`` if there are not as many.
    """
    rng = np.random.default_rng(seed)
    x, y = classifier.training_samples(dataset(data))
    if not 1 <= samples <= len(y):
        raise ValueError(f"{samples} samples cannot be: {data} has {len(y):,}")
    chosen = torch.from_numpy(rng.choice(len(y), samples, replace=False))
    order = int(rng.integers(2**62))
    return classifier.loader_of((x[chosen], y[chosen]), seed=order, least=2)


@cache
def dataset(name: str = DATA) -> Dataset:
    """Load a data set once and say what is odd about it; ``ValueError`` if it cannot be had."""
    data = datasets.load(name, ROOT / "data")
    for note in data.notes:
        print(note, flush=True)
    return data


def trained(file: Path = SAVED, seed: int = 2) -> Path:
    """Return a file that holds a trained classifier; it is trained once, in some seconds.

    Twelve passes in batches of 32, which take a quarter of the time of as many in batches of four.
    ``OSError`` if the file cannot be written.
    """
    if file.exists():
        return file
    model = Net(seed=seed)
    loader = classifier.loader_of(classifier.training_samples(dataset()), 32, seed)
    train_model(model, loader, 12, learning_rate=0.01)
    unfinished = file.with_suffix(f".{os.getpid()}.pth")
    with unfinished.open("wb") as writing:
        torch.save(model.state_dict(), writing)
    unfinished.replace(file)  # at once: two servers may be starting
    return file
