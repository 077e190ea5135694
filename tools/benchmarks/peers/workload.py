"""W1 as every peer is given it: the data dealt, the first model, one agent's training.

A peer trains for the number of rounds it is told (its only argument) and calls ``round_done`` after
each; ``run.py`` reads what that prints. With four samples and batches of four, an epoch is one
step on all of an agent's data, so every peer must end at the same model up to rounding;
``finished`` prints how far it has moved as proof.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import nn

from fedjury.learning import datasets, models
from fedjury.learning.weights import flatten

ROOT = Path(__file__).resolve().parents[3]
AGENTS, SAMPLES, BATCH, EPOCHS, RATE = 1000, 4, 4, 1, 0.1
SEED = 0


def rounds() -> int:
    """Return how many rounds to train, the warm-up included."""
    return int(sys.argv[1])


def dealt() -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (1000, 4, 1, 28, 28) and labels (1000, 4): row i is agent i's."""
    data = datasets.load("mnist5k", ROOT / "data")
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    held = AGENTS * SAMPLES
    return x[:held].reshape(AGENTS, SAMPLES, *x.shape[1:]), y[:held].reshape(AGENTS, SAMPLES)


def network() -> nn.Module:
    """Build the 13,106-parameter network with the weights that all peers start from."""
    return models.build("classifier", (1, 28, 28), 10, SEED)


def round_done() -> None:
    """Tell ``run.py`` that a round has ended, and when."""
    print(f"@round {time.monotonic()}", flush=True)


def note(word: str, value: float) -> None:
    """Tell who measures a figure of the peer's own."""
    print(f"@{word} {value}", flush=True)


def finished(model: nn.Module) -> None:
    """Tell ``run.py`` how far the model has moved in all rounds (Euclidean)."""
    moved = torch.from_numpy(flatten(model) - flatten(network())).double().norm().item()
    print(f"@moved {moved:.5f}", flush=True)
