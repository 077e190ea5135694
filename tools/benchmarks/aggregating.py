"""Rules: their speed, beside torch's own where it has one, and the memory beside their input."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from fedjury import rules
from fedjury.learning.weights import Matrix
from fedjury.randomness import Purpose, stream
from fedjury.rules import Context
from fedjury.rules.byzantine import rounded_up
from tools.benchmarks.figures import Figure, in_turn, ratios, timed

AGENTS = 1000
SMALL, LARGE = 13_106, 139_960
"""Parameters of the classifier and of the cnn."""
SHARE = 0.2


def torch_median(updates: torch.Tensor) -> torch.Tensor:
    """Return the median as torch has it (the lower one of an even number)."""
    return updates.median(dim=0).values


def torch_trimmed_mean(updates: torch.Tensor) -> torch.Tensor:
    """Return the trimmed mean by torch's sort along the agents."""
    k = rounded_up(len(updates) * SHARE)
    return updates.sort(dim=0).values[k : len(updates) - k].mean(dim=0)


THEIRS = {"median": torch_median, "trimmed_mean": torch_trimmed_mean}


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure the speed and the memory of all rules."""
    torch.set_num_threads(1)
    rng = stream(0, Purpose.BENCHMARK)
    updates = rng.normal(0, 0.01, (AGENTS, SMALL)).astype(np.float32)
    tensor = torch.from_numpy(updates)
    figures = []
    for name in rules.RULES:
        say(f"rule {name}")
        ours = partial(rules.build(name), updates, np.full(AGENTS, 4), told(updates))
        ways = {"ours": partial(timed, ours)}
        if name in THEIRS:
            ways["theirs"] = partial(timed, partial(THEIRS[name], tensor))
        in_turn(ways, 1)  # warms up
        seconds = in_turn(ways, repeats)
        mine = seconds["ours"]
        figures.append(Figure(f"{name}, 1,000 x 13,106", [1e3 * s for s in mine], "ms"))
        if name in THEIRS:
            title = f"{name}: torch's time / ours"
            figures.append(ratios(title, seconds["theirs"], mine, at_least=3))
    return figures + [memory(name, say) for name in (*rules.RULES, "mean, clipped")]


def told(updates: Matrix) -> Context:
    """Make a context with all that any rule may ask for."""
    return Context(previous=updates[0], update_sums=updates, server_update=updates[0])


def memory(name: str, say: Callable[[str], None]) -> Figure:
    """Measure what a rule allocates at its peak, as a share of its input (1,000 x 139,960)."""
    say(f"memory of {name}")
    rule = rules.build("mean", clip=1.0) if name == "mean, clipped" else rules.build(name)
    updates = np.zeros((AGENTS, LARGE), dtype=np.float32)
    updates[:, ::7] = 1
    tracemalloc.start()
    rule(updates, np.full(AGENTS, 4), told(updates))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Figure(f"{name}: extra memory / input", [peak / updates.nbytes], at_most=1.2)
