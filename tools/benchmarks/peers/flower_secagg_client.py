"""The Flower client of W1 under SecAgg+, in a file of its own: workers import it."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp

from tools.benchmarks.peers import workload as w1
from tools.benchmarks.peers.flower_client import held


class Client(NumPyClient):  # type: ignore[misc]
    """One agent."""

    def __init__(self, agent: int) -> None:
        self.agent = agent

    def fit(self, parameters: list[Any], _config: Any) -> tuple[list[Any], int, dict[str, Any]]:
        """Train from the model it is sent, and return its own."""
        model, x, y = held()
        state = zip(model.state_dict(), map(torch.from_numpy, parameters), strict=True)
        model.load_state_dict(dict(state))
        sgd = torch.optim.SGD(model.parameters(), w1.RATE)
        for _ in range(w1.EPOCHS):
            sgd.zero_grad()
            F.cross_entropy(model(x[self.agent]), y[self.agent]).backward()
            sgd.step()
        return [one.numpy().copy() for one in model.state_dict().values()], w1.SAMPLES, {}


def client(context: Any) -> Any:
    """Return the client that a worker shall be."""
    return Client(context.node_config["partition-id"]).to_client()


app = ClientApp(client_fn=client, mods=[secaggplus_mod])
