"""What the programs of a sweep need, loaded once: this takes seconds to import.

The process that forks them does so (``tools.chaos.programs``), and no other.
"""

from __future__ import annotations

import gc
from pathlib import Path
from types import ModuleType

import torch

from fedjury.agents import __main__ as agents
from fedjury.agents import agent_runner, simulated, spawn
from fedjury.aggregator import __main__ as aggregator
from fedjury.aggregator import serve
from fedjury.cells import __main__ as ingest
from fedjury.learning import datasets
from tools.chaos import failpoints, flood

__all__ = ["PROGRAMS", "agent_runner", "failpoints", "serve", "simulated", "spawn"]

PROGRAMS: dict[str, ModuleType] = {
    "aggregator": aggregator,
    "agents": agents,
    "flood": flood,
    "ingest": ingest,
}
"""What can be forked, each with a ``main`` and the errors that it expects."""

torch.set_num_threads(1)
datasets.load("digits", Path("data"), 500)
gc.collect()
gc.freeze()
