"""The classifier alone: train it, test it, save it.

A saved file is a state dict that ``torch.load(..., weights_only=True)`` reads; the aggregator
takes it as the first global model with ``--init``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from learning import datasets, models
from learning.datasets.dataset import Dataset
from learning.evaluation import accuracy_on
from learning.weights import Vector, flatten

EXAMPLES = """examples:
  python -m learning.classifier
  python -m learning.classifier --data fashion-mnist --epochs 10 --out fashion.pth
  python run.py --init classifier.pth"""


def train_model(
    model: nn.Module, data: Dataset, epochs: int, learning_rate: float, batch_size: int, seed: int
) -> Iterator[float]:
    """Train with SGD and cross-entropy; yields the mean training loss after each epoch."""
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    sgd = torch.optim.SGD(model.parameters(), learning_rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for batch in torch.randperm(len(y), generator=generator).split(batch_size):
            sgd.zero_grad()
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            sgd.step()
            total += loss.item() * len(batch)
        yield total / len(y)
    model.eval()


def test_model(model: nn.Module, data: Dataset) -> float:
    """Return the model's accuracy on the held-out samples."""
    measure = accuracy_on(model, torch.from_numpy(data.x_test), torch.from_numpy(data.y_test))
    return measure(flatten(model))


def read_weights(file: Path, model: nn.Module) -> Vector:
    """Read a saved classifier as a vector (d,).

    Raises
    ------
    ValueError
        If the file is missing, is no state dict, or belongs to another network.
    """
    reason = "it is no saved state dict"
    try:
        state = torch.load(file, weights_only=True)
        reason = "they are another network's"
        model.load_state_dict(state)
    except Exception as why:  # torch raises half a dozen kinds, some without a word
        reason = (isinstance(why, OSError) and why.strerror) or reason
        raise ValueError(f"{file} does not hold weights of this model: {reason}") from why
    return flatten(model)


def main(arguments: Sequence[str]) -> int:
    """Train, test and save a classifier."""
    parser = argparse.ArgumentParser(
        prog="python -m learning.classifier",
        description="Train and test the classifier alone, and save it.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--data", default="mnist5k", help="data set by name or .npz (mnist5k)")
    parser.add_argument("--data-root", default="data", type=Path, help="folder for downloads")
    parser.add_argument("--model", default="classifier", help=", ".join(models.MODELS))
    parser.add_argument("--epochs", default=20, type=int, help="passes over the data (20)")
    parser.add_argument("--lr", default=0.01, type=float, help="learning rate of SGD (0.01)")
    parser.add_argument("--batch", default=32, type=int, help="samples a step (32)")
    parser.add_argument("--seed", default=0, type=int, help="of weights and order (0)")
    parser.add_argument("--out", default="classifier.pth", type=Path, help="where to save it")
    chosen = parser.parse_args(arguments)
    if not chosen.out.absolute().parent.is_dir():
        parser.error(f"--out {chosen.out}: there is no such folder")
    if chosen.epochs < 1 or chosen.batch < 1 or not chosen.lr > 0:
        parser.error("--epochs and --batch must be 1 or more, --lr above 0")
    try:
        data = datasets.load(chosen.data, chosen.data_root)
        model = models.build(chosen.model, data.shape, data.classes, chosen.seed)
    except ValueError as why:
        parser.error(str(why))
    print(f"{chosen.model}: {len(flatten(model)):,} parameters, {len(data.y_train):,} samples")
    steps = train_model(model, data, chosen.epochs, chosen.lr, chosen.batch, chosen.seed)
    for epoch, loss in enumerate(steps, start=1):
        measured = test_model(model, data)
        print(f"epoch {epoch:>3}/{chosen.epochs}  loss {loss:.4f}  accuracy {measured:.1%}")
    torch.save(model.state_dict(), chosen.out)
    print(f"saved {chosen.out} (accuracy {measured:.1%} on {len(data.y_test):,} held-out samples)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
