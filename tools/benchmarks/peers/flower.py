"""W1 in Flower's simulation, which runs its clients in Ray workers.

Two workers a core (``num_cpus`` 0.5): one a core, as its guides have it, leaves the cores waiting
for the messages between the processes and is a third slower; four a core gain nothing.
``flwr run`` ends in the same engine; this entry needs no packaged app.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
from typing import Any

from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from tools.benchmarks.peers import flower_client
from tools.benchmarks.peers import workload as w1

RESOURCES = {"num_cpus": 0.5, "num_gpus": 0.0}


def serve(grid: Any, _context: Any) -> None:
    """Train; Flower calls what evaluates after each round, and here it only reports."""
    model = w1.network()

    def report(number: int, _arrays: Any) -> None:
        if number:  # 0 is before the first round
            w1.round_done()

    strategy = FedAvg(
        fraction_evaluate=0.0, min_train_nodes=w1.AGENTS, min_available_nodes=w1.AGENTS
    )
    start = ArrayRecord(model.state_dict())
    result = strategy.start(grid, start, num_rounds=w1.rounds(), evaluate_fn=report)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    w1.finished(model)


def main() -> None:
    """Start the simulation."""
    server = ServerApp()
    server.main()(serve)
    backend = {"client_resources": RESOURCES, "init_args": {"num_cpus": os.cpu_count()}}
    run_simulation(server, flower_client.app, w1.AGENTS, backend_config=backend)


if __name__ == "__main__":
    main()
