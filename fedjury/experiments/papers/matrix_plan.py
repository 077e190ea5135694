"""The set-up of the matrix: every attack against every rule, alone and with somebody on guard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedjury.config.settings import load
from fedjury.experiments.engine import setup
from fedjury.experiments.engine.case import Case, Job, Labels
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.registry import ATTACKS, RULES, Need

NONE = "none"
FRONTED: dict[str, dict[str, Any]] = {
    "clip + mean": {"aggregation.rule": "mean", "aggregation.pre_aggregation": {"clip": 0.3}},
    "bucketing + krum": {
        "aggregation.rule": "krum",
        "aggregation.pre_aggregation": {"bucketing": 2},
    },
    "nnm + trimmed_mean": {
        "aggregation.rule": "trimmed_mean",
        "aggregation.pre_aggregation": {"nnm": -1},
    },
}
"""Rules behind a front, which are columns of their own; -1 stands for the number of attackers."""

STATELESS = tuple(rule for rule in RULES if Need.STATE not in RULES.facts(rule).needs)
"""What is compared: optimizers of the server defend against nobody."""

KEPT = 0.02
"""Share of the training set that the server keeps; the agents are dealt nothing of it, whoever asks
for it, so that they hold the same in all cells."""

DETECTORS = ["fixed_point", "similarity"]
"""Who looks for malicious agents, in all cells."""

GUARDS: dict[str, dict[str, Any]] = {
    "alone": {},
    "votes": {
        "validation.validators": 10,
        "validation.quorum": 5,
        "validation.judge": "calibrated",
        "validation.look_back": 10,
    },
    "quarantine": {"detection.quarantine": True},
}
"""Who helps the rule: nobody, validators who vote, or detectors whose suspects are left out."""

COMMON: dict[str, Any] = {
    "agents.split": "groups",
    "agents.degree": 0.5,
    "agents.scale": 1e6,
    "training.epochs": 2,
    "training.batch_size": 20,
    "detection.detectors": DETECTORS,
    "backdoor.task": "label_flip",
    # On purpose: an undefended model overflows, and nothing may crash when it does.
    "limits.finite": False,
    # No deadline may decide: the same seed has to give the same records on a slow machine too.
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
    "collect.patience": 60.0,
}
"""The settings of all cells, as "section.key" -> value."""

MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.1},
    "classifier": {"training.learning_rate": 0.1},
    "lenet": {"training.learning_rate": 0.1},
}
"""Networks to choose from, with their local SGD."""


@dataclass(frozen=True)
class MatrixScale(Scale):
    """How large the matrix is."""

    n: int = 50
    malicious: int = 10
    """Attackers, of the ``n``; those of attacks without data are fakes."""
    rounds: int = 40
    start: int = 16
    """The round in which they begin to strike."""
    attacks: tuple[str, ...] = (NONE, *ATTACKS)
    columns: tuple[str, ...] = (*STATELESS, *FRONTED)
    """Rules, alone and behind fronts."""


@dataclass(frozen=True)
class MatrixPlan(Plan):
    """What the matrix is run with: one data set or several."""

    scale: MatrixScale

    def case(self, labels: Labels) -> Case:
        """Make the cell of this attack, rule, guard, data set and seed."""
        scale, data = self.scale, str(labels["data"])
        attack, rule = str(labels["attack"]), str(labels["rule"])
        given: dict[str, Any] = {
            "run.seed": int(labels["seed"]),
            "run.rounds": scale.rounds,
            "data.name": data,
            "agents.n": scale.n,
            "agents.samples": int(self.sets[data] * (1 - KEPT) / scale.n),
            "agents.malicious": 0.0,
        }
        if attack != NONE:
            given |= {"agents.malicious": scale.malicious / scale.n, "agents.attack": attack}
            given["agents.start"] = scale.start
        if attack != NONE and ATTACKS.facts(attack).hides_backdoor:
            given["backdoor.inject"] = list(range(scale.start, scale.rounds + 1))
        changes = (
            dict(self.common) | given | ruled(rule, scale.malicious) | GUARDS[str(labels["guard"])]
        )
        title = " ".join(str(labels[name]) for name in ("attack", "rule", "guard", "seed"))
        return Case(labels, Job(title, load(overrides=changes)))


def ruled(rule: str, malicious: int) -> dict[str, Any]:
    """Return the settings of a column: a rule that reckons with ``malicious`` attackers.

    Rules that have to know reckon with a fifth of the updates, unless told otherwise: as many as
    there are attackers, and fewer where some are left out.
    """
    chosen = dict(FRONTED.get(rule, {"aggregation.rule": rule}))
    for front, number in chosen.get("aggregation.pre_aggregation", {}).items():
        if number < 0:
            chosen["aggregation.pre_aggregation"] = {front: malicious}
    if Need.SERVER_UPDATE in RULES.facts(chosen["aggregation.rule"]).needs:
        chosen["data.server"] = KEPT
    return chosen


SMALL = MatrixScale("small", ("mnist5k",))
PAPER = MatrixScale(
    "paper",
    ("mnist", "fashion-mnist"),
    {"model.name": "cnn", "training.learning_rate": 0.05},
    n=100,
    malicious=20,
    rounds=200,
    start=21,
)
TINY = MatrixScale(
    "tiny",
    ("digits",),
    {"model.name": "mlp", "data.test": 300, "training.learning_rate": 0.2},
    n=15,
    malicious=3,
    rounds=5,
    start=3,
    attacks=(NONE, "mpaf", "min_max", "backdoor"),
    columns=("mean", "krum", "clip + mean"),
)
"""For tests."""

SCALES = {scale.name: scale for scale in (SMALL, PAPER, TINY)}


plan = setup.planner(MatrixPlan, SCALES, COMMON, MODELS)


def describe(plan: MatrixPlan) -> str:
    """Say in a few words what was run."""
    common, scale = plan.common, plan.scale
    return (
        f"model {common['model.name']}, {scale.n} agents of whom {scale.malicious} are evil and "
        f"strike "
        f"from round {scale.start} of {scale.rounds} on, groups of degree "
        f"{common['agents.degree']:g}, SGD lr {common['training.learning_rate']:g}, batches of "
        f"{common['training.batch_size']}, {common['training.epochs']} local epochs; detectors: "
        f"{', '.join(DETECTORS)}"
    )


LEGEND = (
    "alone: the rule, nobody else. votes: ten validators and their calibrated judge, five of whom "
    "reject. quarantine: flagged agents are left out, and soon not called. Rules that have to "
    "know reckon with the attackers there are, and without attack with as many."
)

MATRIX = Setup(SCALES, MODELS, plan, describe, LEGEND)
