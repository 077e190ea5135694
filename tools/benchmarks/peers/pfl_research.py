"""W1 in pfl-research: its FederatedAveraging, its PyTorchModel and its SimulatedBackend.

Its guide "Fast distributed simulations" says to keep data that fit into memory in its own
``Dataset``, and to start several processes with torchrun while that makes it faster;
``run.py`` does, with one process a core.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.ops import get_ops
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from torch import nn

from tools.benchmarks.peers import workload as w1


class Network(nn.Module):
    """The network with the two methods that pfl asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = w1.network()

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the mean loss."""
        return F.cross_entropy(self.inner(x), y)

    def metrics(self, *_: torch.Tensor) -> dict[str, Any]:
        """Return nothing: evaluation is no part of W1."""
        return {}


class Report(TrainingProcessCallback):  # type: ignore[misc]
    """Tells ``run.py`` when a round has ended."""

    def after_central_iteration(self, *_: Any, **__: Any) -> Any:
        """Report from one of the processes."""
        if get_ops().distributed.global_rank == 0:
            w1.round_done()
        return False, Metrics()


def main() -> None:
    """Train."""
    wanted, (x, y) = w1.rounds(), w1.dealt()
    torch.set_num_threads(1)
    users = [Dataset((x[i], y[i])) for i in range(w1.AGENTS)]
    sampler = get_user_sampler("minimize_reuse", list(range(w1.AGENTS)))
    data = FederatedDataset(users.__getitem__, sampler)
    start = Network()
    central = torch.optim.SGD(start.parameters(), lr=1.0)  # plain averaging
    schedule = NNAlgorithmParams(
        central_num_iterations=wanted,
        evaluation_frequency=wanted + 1,
        train_cohort_size=w1.AGENTS,
        val_cohort_size=0,
    )
    local = NNTrainHyperParams(
        local_num_epochs=w1.EPOCHS, local_learning_rate=w1.RATE, local_batch_size=w1.BATCH
    )
    backend = SimulatedBackend(data, data, [WeightByDatapoints()])
    model = PyTorchModel(start, torch.optim.SGD, central)
    FederatedAveraging().run(
        schedule, backend, model, local, callbacks=[Report()], send_metrics_to_platform=False
    )
    if get_ops().distributed.global_rank == 0:
        w1.finished(start.inner)


if __name__ == "__main__":
    main()
