"""The server: python server.py 10, where ten updates close a round."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classifier import SAVED, test_model, trained
from client import FOLDER
from torch import nn

from fedjury.config.program import Program, run_main
from fedjury.config.settings import Settings
from fedjury.gateway import program
from fedjury.gateway.json_tensors import vector_of
from fedjury.gateway.refusal import InvalidRequest
from fedjury.learning.weights import Vector, flatten, load, tensors
from fedjury.rules import Context, build

EXAMPLES = """  %(prog)s                 100 updates close a round; port 5000
  %(prog)s 10
  %(prog)s 10 --rule median
  %(prog)s 10 --init my.pth      another start than the trained classifier"""


class FederatedLearning:
    """A federated model in one process: the server's rule and test, without any network."""

    def __init__(self, model: nn.Module, threshold: int) -> None:
        """``threshold``: updates that are collected before they are aggregated."""
        if threshold < 1:
            raise ValueError(f"a threshold of {threshold} must be 1 or more")
        self.model, self.threshold = model, threshold
        self.client_updates: list[Vector] = []
        self.historical_accuracy = [test_model(model)]
        self._rule = build("mean")

    def aggregate(self) -> None:
        """Move the global model by the mean of the collected updates.

        ``ValueError`` if there are none.
        """
        if not self.client_updates:
            raise ValueError("there is no update to aggregate")
        updates = np.stack(self.client_updates)
        step = self._rule(updates, np.ones(len(updates), np.int64), Context())
        load(self.model, flatten(self.model) + step)

    def update(self, client_update: Mapping[str, Any]) -> None:
        """Collect what a client's weights moved by; with enough updates, aggregate and test.

        ``client_update``: a state dict, of tensors or of lists. ``ValueError`` if it is none of
        this model's, or not finite.
        """
        self.client_updates.append(self._checked(client_update))
        if len(self.client_updates) >= self.threshold:
            self.aggregate()
            self.client_updates = []
            self.historical_accuracy.append(test_model(self.model))

    def _checked(self, client_update: Mapping[str, Any]) -> Vector:
        """Read an update (d,) as strictly as the server does."""
        lists = {k: v.tolist() if torch.is_tensor(v) else v for k, v in client_update.items()}
        try:
            vector = vector_of(lists, tensors(self.model))
        except InvalidRequest as why:
            raise ValueError(f"no update of this model: {why.detail}") from why
        if not np.isfinite(vector).all():
            raise ValueError("the update is not finite")
        return vector


def start(settings: Settings) -> Settings:
    """Let a federation begin with the trained classifier, unless it is to begin otherwise."""
    plain = program.defaults()
    same = settings.model == plain.model and settings.data.test == plain.data.test
    if not same or settings.data.name != plain.data.name:
        return settings
    if not SAVED.exists():
        print("training the classifier with which it starts, this once", flush=True)
    try:
        file = trained()
    except OSError as why:
        print(f"it cannot be kept as {SAVED}: {why.strerror}", flush=True)
        file = trained(Path(tempfile.mkdtemp()) / SAVED.name)
    return settings.replaced(model=settings.model.replaced(init=str(file)))


main = Program(
    f"{FOLDER}/server.py",
    partial(program.parser_of, examples=EXAMPLES),
    partial(program.work, start=start),
)


if __name__ == "__main__":
    run_main(main, program.EXPECTED)
