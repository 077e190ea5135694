"""The Flower client of W1, in a file of its own: workers import it instead of unpickling it."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from tools.benchmarks.peers import workload as w1


@cache
def held() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Load the network and all agents' data, once a worker process."""
    return w1.network().train(), *w1.dealt()


def train(message: Any, context: Any) -> Any:
    """Train one agent from the model it is sent and answer with its own."""
    model, x, y = held()
    agent = context.node_config["partition-id"]
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    sgd = torch.optim.SGD(model.parameters(), w1.RATE)
    for _ in range(w1.EPOCHS):
        sgd.zero_grad()
        F.cross_entropy(model(x[agent]), y[agent]).backward()
        sgd.step()
    answer = {
        "arrays": ArrayRecord(model.state_dict()),
        "metrics": MetricRecord({"num-examples": w1.SAMPLES}),
    }
    return Message(RecordDict(answer), reply_to=message)


app = ClientApp()
app.train()(train)
