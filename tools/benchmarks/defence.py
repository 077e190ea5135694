"""What detection and the jury of the default run cost, beside the same run with neither."""

from __future__ import annotations

from collections.abc import Callable

from tools.benchmarks import network
from tools.benchmarks.figures import Figure, ratios

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
    figures = []
    for name in NETWORKS:
        figures += of_network(name, repeats, say)
    return figures


def of_network(name: str, repeats: int, say: Callable[[str], None]) -> list[Figure]:
    """Measure a run of 1,000 agents who train this network."""
    spent: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(1, repeats + 1):
        for side, without in SIDES.items():
            say(f"{name}, defended by {side}, {number} of {repeats}")
            flags = ["--evil", "0", "--set", f"model.name={name}", *NETWORKS[name], *without]
            run = network.federation(ROUNDS, *flags, scenario=DEFAULTS)
            spent[side].append(1e3 * (run.processor["aggregator"] + run.processor["broker"]))
    plain = spent["neither"]
    most = {"detection and jury": 1.5}
    return [
        *(
            Figure(f"{name}, {side}: aggregator and broker", result, "ms/update")
            for side, result in spent.items()
        ),
        *(
            ratios(f"{name}: {side} / neither", spent[side], plain, at_most=most.get(side))
            for side in SIDES
            if side != "neither"
        ),
    ]
