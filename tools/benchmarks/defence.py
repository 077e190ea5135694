"""What detection and the jury of the default run cost, beside the same run with neither."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tools.benchmarks import network
from tools.benchmarks.figures import Figure, in_turn, ratios

ROUNDS = 14
DEFAULTS = "config/default.toml"

NETWORKS = {"mlp": (), "classifier": ("--set", "aggregation.server_lr=1.0")}
"""With the default's step of 1.5 the classifier is dead after five rounds. Then all updates of
agents with one label point the same way."""

JURY = ("--set", "validation.validators=0")
"""Leaves out the jury."""

SIDES = {
    "neither": (*JURY, "--set", "detection.detectors=[]"),
    "detection": JURY,
    "detection and jury": (),
}
"""What the default run is without, on each side."""


def measure(repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure the processor time of aggregator and broker with defences and without, in turn."""
    return [figure for name in NETWORKS for figure in of_network(name, repeats, say)]


def of_network(name: str, repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure a run of 1,000 agents who train this network."""
    say(f"{name}, defended by nothing, by detection, and by a jury too")
    spent = in_turn({side: partial(processor_time, name, side) for side in SIDES}, repeats)
    most = {"detection and jury": 1.5}
    figures = [
        Figure(f"{name}, {side}: aggregator and broker", result, "ms/update")
        for side, result in spent.items()
    ]
    plain = spent.pop("neither")
    return figures + [
        ratios(f"{name}: {side} / neither", result, plain, at_most=most.get(side))
        for side, result in spent.items()
    ]


def processor_time(name: str, side: str) -> float:
    """Return what aggregator and broker take for an update (ms)."""
    flags = ["--evil", "0", "--set", f"model.name={name}", *NETWORKS[name], *SIDES[side]]
    spent = network.federation(ROUNDS, *flags, scenario=DEFAULTS).processor
    return 1e3 * (spent["aggregator"] + spent["broker"])
