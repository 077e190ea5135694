"""The classifier alone: train it, test it, save it.

A saved file is a state dict that ``torch.load(..., weights_only=True)`` reads; the aggregator
takes it as the first global model with ``--init``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fedjury.config.program import run_main
from fedjury.learning import datasets, models
from fedjury.learning.datasets.dataset import Dataset
from fedjury.learning.evaluation import answers_on, metric_of
from fedjury.learning.saved import read_weights
from fedjury.learning.shards import batches
from fedjury.learning.task import cross_entropy, task_of
from fedjury.learning.training import check_batches, fewest, step
from fedjury.learning.weights import flatten
from fedjury.randomness import Purpose, stream

__all__ = ["loader_of", "main", "read_weights", "test_model", "train_epochs", "training_samples"]

EXAMPLES = """examples:
  python -m fedjury.learning.classifier
  python -m fedjury.learning.classifier --data digits --model mlp --out digits.pth
  python -m fedjury.learning.classifier --seed 1 --epochs 20 --lr 0.01 --batch 32
use it in a federation:
  python run.py --model classifier --init classifier.pth --n 20 --set training.learning_rate=0.02"""


MOST = 1_000_000
"""Epochs, and samples a step."""


EPOCHS, LEARNING_RATE, MOMENTUM, BATCH = 5, 0.001, 0.9, 4
"""How the classifier is trained unless told otherwise: samples of four, by small steps."""

Samples = tuple[torch.Tensor, ...]
"""Images (n, C, H, W) float32 and their labels (n,) int64."""


class Batches:
    """The numbers of samples in batches: another order in each epoch, all of them from the seed."""

    def __init__(self, samples: int, size: int, seed: int, least: int) -> None:
        self._samples, self._size, self._least = samples, size, least
        self._rng = stream(seed, Purpose.CLASSIFIER_ORDER)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.from_numpy(self._rng.permutation(self._samples))
        return (batch.tolist() for batch in batches(order, self._size, self._least))


def loader_of(
    samples: Samples, batch_size: int = BATCH, seed: int = 0, least: int = 1
) -> DataLoader[Samples]:
    """Return a loader of batches; the last has ``least`` samples or is put to the one before."""
    order = Batches(len(samples[0]), batch_size, seed, least)
    return DataLoader(TensorDataset(*samples), batch_sampler=order)


def training_samples(data: Dataset) -> Samples:
    """Return the training samples of a data set as tensors."""
    return torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch work on one thread: on more, a network so small mostly waits for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_epochs(
    model: nn.Module,
    loader: Iterable[Samples],
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
) -> Iterator[float]:
    """Train with SGD and cross-entropy; yields the mean training loss after each epoch."""
    sgd = torch.optim.SGD(model.parameters(), learning_rate, momentum)
    for _ in range(epochs):
        model.train()
        total = count = 0.0
        for x, y in loader:
            loss = step(model, sgd, cross_entropy, x, y)
            total, count = total + loss.item() * len(y), count + len(y)
        yield total / count
    model.eval()


def test_model(model: nn.Module, data: Dataset) -> float:
    """Return the model's accuracy on the held-out samples."""
    task = task_of(data)
    answers = answers_on(model, torch.from_numpy(data.x_test), task)
    return metric_of(answers, torch.from_numpy(data.y_test), task)(flatten(model))


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fedjury.learning.classifier",
        description="Train and test the classifier without a federation, and save it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    data, networks = ", ".join(datasets.DATASETS), ", ".join(models.MODELS)
    flags: tuple[tuple[str, Callable[[str], object], object, str, str], ...] = (
        ("--data", str, "mnist5k", "NAME", f"{data}, or an .npz file"),
        ("--data-root", Path, "data", "DIR", "folder for downloads"),
        ("--model", str, "classifier", "NAME", f"the network: {networks}"),
        ("--epochs", int, EPOCHS, "N", "passes over the training samples"),
        ("--lr", float, LEARNING_RATE, "X", "learning rate of SGD"),
        ("--batch", int, BATCH, "N", "samples a step"),
        ("--seed", int, 1, "N", "of the first weights and of the samples' order"),
        ("--out", Path, "classifier.pth", "FILE", "where to save it"),
    )
    for name, kind, default, metavar, text in flags:
        described = f"{text} (default: %(default)s)"
        parser.add_argument(name, type=kind, default=default, metavar=metavar, help=described)
    return parser


def impossible(chosen: argparse.Namespace) -> str:
    """Say which of the flags cannot be, before anything is trained; "" if all can."""
    if chosen.out.is_dir() or not chosen.out.absolute().parent.is_dir():
        return f"--out {chosen.out} must be a file in a folder that is there"
    counts = 1 <= chosen.epochs <= MOST and 1 <= chosen.batch <= MOST
    if not counts or not 0 < chosen.lr < math.inf:
        return f"--epochs and --batch must be 1 or more, {MOST:,} at most, --lr above 0, and finite"
    return "" if 0 <= chosen.seed < 2**63 else "--seed must be from 0 to 2^63 - 1"


def main(arguments: Sequence[str]) -> int:
    """Train, test and save a classifier."""
    result = parser()
    chosen = result.parse_args(arguments)
    if wrong := impossible(chosen):
        result.error(wrong)
    try:
        data = datasets.load(chosen.data, chosen.data_root)
        model = models.build(chosen.model, data.shape, data.classes, chosen.seed)
        check_batches(model, data.shape, chosen.batch, len(data.y_train))
    except ValueError as why:
        result.error(str(why))
    for note in data.notes:
        print(note)
    print(f"{chosen.model}: {len(flatten(model)):,} parameters, {len(data.y_train):,} samples")
    least = fewest(model, data.shape)
    loader = loader_of(training_samples(data), chosen.batch, chosen.seed, least)
    steps = train_epochs(model, loader, chosen.epochs, chosen.lr)
    with one_thread():
        for epoch, loss in enumerate(steps, start=1):
            measured = test_model(model, data)
            print(f"epoch {epoch:>3}/{chosen.epochs}  loss {loss:.4f}  accuracy {measured:.1%}")
    try:
        torch.save(model.state_dict(), chosen.out)
    except (OSError, RuntimeError) as why:  # PyTorch raises the latter where a file cannot be made
        print(f"error: {chosen.out} cannot be written: {why}", file=sys.stderr)
        return 2
    print(f"saved {chosen.out} (accuracy {measured:.1%} on {len(data.y_test):,} held-out samples)")
    return 0


if __name__ == "__main__":
    run_main(main, ())
