"""W1 in BlazeFL: the server and the serial trainer of its own FedAvg.

Of its three trainers the serial one is the fastest here. Threads, which it recommends, run in
parallel only on a free-threaded Python from 3.14 on; with the lock of this one they are half as
fast. Its two processes are forked again each round and write a file a client: a seventh.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import torch
from blazefl.contrib import FedAvgBaseClientTrainer, FedAvgBaseServerHandler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tools.benchmarks.peers import workload as w1


class Partitions:
    """The agents' data, as BlazeFL asks for them."""

    def __init__(self) -> None:
        x, y = w1.dealt()
        self.held = [TensorDataset(x[agent], y[agent]) for agent in range(w1.AGENTS)]

    def get_dataloader(
        self, *, cid: int, batch_size: int, generator: torch.Generator, **_: Any
    ) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Shuffle one agent's samples into batches."""
        return DataLoader(self.held[cid], batch_size, shuffle=True, generator=generator)


class Networks:
    """The one network, as BlazeFL asks for it."""

    def select_model(self, _name: str) -> nn.Module:
        """Build it, by any name."""
        return w1.network()


def main() -> None:
    """Train."""
    torch.set_num_threads(1)  # two make it slower
    common: dict[str, Any] = {
        "model_selector": Networks(),
        "model_name": "classifier",
        "dataset": Partitions(),
        "num_clients": w1.AGENTS,
        "device": "cpu",
        "batch_size": w1.BATCH,
        "seed": w1.SEED,
    }
    server = FedAvgBaseServerHandler(global_round=w1.rounds(), sample_ratio=1.0, **common)
    trainer = FedAvgBaseClientTrainer(epochs=w1.EPOCHS, lr=w1.RATE, **common)
    while not server.if_stop():
        called = server.sample_clients()
        trainer.local_process(server.downlink_package(), called)
        for package in trainer.uplink_package():
            server.load(package)
        w1.round_done()
    w1.finished(server.model)


if __name__ == "__main__":
    main()
