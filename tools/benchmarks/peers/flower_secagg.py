"""W1 under Flower's SecAgg+, in its simulation: ``ROUNDS AGENTS SHARES THRESHOLD``.

Each agent's model is summed, as in its own example, with its own clip of 8 and 2^22 steps. All that
a round sends is counted in the first one, the warm-up, as the objects that Flower would push
through its network. Weights are all the same, so the largest is that of all: with Flower's default,
1,000, four samples would leave 2^14 of the 2^22 steps.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import torch
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from numpy.linalg import norm
from torch import nn

from fedjury.learning.weights import flatten
from tools.benchmarks.peers import flower_secagg_client, plain
from tools.benchmarks.peers import workload as w1
from tools.benchmarks.peers.flower import RESOURCES

STORE = 2**30
"""Bytes of Ray's object store."""


class Counting:
    """Flower's grid; counts what goes through it until told not to."""

    def __init__(self, grid: Any) -> None:
        self._grid = grid
        self.active = True
        self.down = self.up = 0

    def __getattr__(self, name: str) -> Any:
        """Do everything else as the grid does it."""
        return getattr(self._grid, name)

    def send_and_receive(self, messages: Iterable[Any], **how: Any) -> Any:
        """Send messages and wait for the answers."""
        sent = list(messages)
        if not self.active:
            return self._grid.send_and_receive(sent, **how)
        self.down += sum(map(size, sent))
        answers = list(self._grid.send_and_receive(sent, **how))
        self.up += sum(map(size, answers))
        failed = [answer for answer in answers if answer.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} clients failed: {failed[0].error}")
        return answers


def size(message: Any) -> int:
    """Return the bytes of a message's content as Flower sends it."""
    return sum(len(one.deflate()) for one in get_all_nested_objects(message.content).values())


def main() -> None:
    """Train, and say how far the first sum is off and where all rounds end, by the plain loop."""
    rounds, agents, shares, threshold = map(int, sys.argv[1:5])
    model = w1.network()
    models: list[nn.Module] = []

    def serve(grid: Any, context: Any) -> None:
        counting = Counting(grid)

        def report(number: int, arrays: Any, _config: Any) -> None:
            if number:
                counting.active = False
                now = zip(model.state_dict(), map(torch.as_tensor, arrays), strict=True)
                models.append(w1.network())
                models[-1].load_state_dict(dict(now))
                w1.round_done()

        start = ndarrays_to_parameters([one.numpy() for one in model.state_dict().values()])
        strategy = FedAvg(
            fraction_evaluate=0.0,
            min_fit_clients=agents,
            min_available_clients=agents,
            initial_parameters=start,
            evaluate_fn=report,
        )
        secure = SecAggPlusWorkflow(shares, threshold, max_weight=float(w1.SAMPLES))
        legacy = LegacyContext(context, ServerConfig(num_rounds=rounds), strategy)
        DefaultWorkflow(secure)(counting, legacy)
        w1.note("down", counting.down / agents)
        w1.note("up", counting.up / agents)

    server = ServerApp()
    server.main()(serve)
    init = {"num_cpus": os.cpu_count(), "object_store_memory": STORE}
    backend = {"client_resources": RESOURCES, "init_args": init}
    run_simulation(server, flower_secagg_client.app, agents, backend_config=backend)
    w1.note("off", float(abs(flatten(models[0]) - flatten(plain.train(agents, 1))).max()))
    w1.note("apart", apart(models[-1], plain.train(agents, rounds)))
    w1.finished(models[-1])


def apart(end: nn.Module, right: nn.Module) -> float:
    """Return how far a model is from where it should be, over how far that is from the start."""
    start, goal = flatten(w1.network()), flatten(right)
    return float(norm(flatten(end) - goal) / norm(goal - start))


if __name__ == "__main__":
    main()
