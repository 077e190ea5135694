"""What differential privacy costs: accuracy by epsilon, and what votes make of noisy candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.config.settings import load
from fedjury.experiments.engine import pictures, setup
from fedjury.experiments.engine.case import Case, Job, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, by, errors, last, rate
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers import privacy_network
from fedjury.privacy.accounting import noise_for

EPSILONS = {"2": 2.0, "8": 8.0, "none": 0.0}
"""What all rounds of a run may spend; none: updates are clipped, and there is no noise."""

VOTES: dict[str, dict[str, Any]] = {
    "off": {},
    "on": {
        "validation.validators": 10,
        "validation.quorum": 5,
        "validation.judge": "robust",
        "validation.look_back": 4,
        "validation.minimum_history": 4,
        "validation.warm_up": 4,
    },
}
"""Whether ten validators judge each candidate; from the fifth round on, when they have a past."""

DELTA, CLIP = 1e-5, 1.0

COLUMNS = ("data", "agents", "epsilon", "votes")

COLOURS = {"2": "#b2452e", "8": "#2471a3", "none": "black"}

COMMON: dict[str, Any] = {
    "agents.malicious": 0.0,
    "agents.shared_downlink": True,
    "training.batch_size": 10,
    "aggregation.server_lr": 2.0,
    # No deadline may decide on a slow machine.
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
    "collect.patience": 60.0,
}
"""The settings of all cells, as "section.key" -> value."""

MODELS: dict[str, dict[str, Any]] = {
    f"{privacy_network.__name__}:pooled": {"training.learning_rate": 0.5},
    "mlp": {"training.learning_rate": 0.2},
}
"""Networks to choose from, with their local SGD."""


@dataclass(frozen=True)
class PrivacyScale(Scale):
    """How large the experiment is."""

    fleets: tuple[int, ...] = (300, 1000)
    """Numbers of agents: the more, the less noise there is in the mean."""
    samples: int = 30
    """Of each agent."""
    rounds: int = 12


@dataclass(frozen=True)
class PrivacyPlan(Plan):
    """What it is run with: one data set or several."""

    scale: PrivacyScale

    def case(self, labels: Labels) -> Case:
        """Make the cell of this data set, number of agents, epsilon, votes and seed."""
        scale, (data, n, epsilon, votes) = self.scale, (labels[name] for name in COLUMNS)
        given: dict[str, Any] = {
            "agents.n": int(n),
            "agents.samples": scale.samples,
            "run.seed": int(labels["seed"]),
            "run.rounds": scale.rounds,
            "data.name": str(data),
        }
        changes = given | dict(self.common) | VOTES[str(votes)]
        if spends := EPSILONS[str(epsilon)]:
            noise = noise_for(spends, DELTA, scale.rounds)
            changes |= {"privacy.noise": noise, "privacy.clip": CLIP, "privacy.delta": DELTA}
        else:
            changes["aggregation.clip"] = CLIP
        title = " ".join(str(labels[name]) for name in (*COLUMNS[1:], "seed"))
        return Case(labels, Job(title, load(overrides=changes)))


SMALL = PrivacyScale("small", ("fashion-mnist",), {"data.test": 1000})
PAPER = PrivacyScale("paper", ("fashion-mnist",), fleets=(2000,), rounds=100)
TINY = PrivacyScale(
    "tiny",
    ("digits",),
    {"model.name": "mlp", "training.learning_rate": 0.2, "data.test": 300},
    fleets=(12,),
    samples=40,
    rounds=7,
)
"""For tests."""

SCALES = {scale.name: scale for scale in (SMALL, PAPER, TINY)}


def describe(plan: PrivacyPlan) -> str:
    """Say in a few words what was run."""
    common, scale = plan.common, plan.scale
    return (
        f"model {common['model.name']}, agents who hold "
        f"{common.get('agents.samples', scale.samples)} samples each and all train in each of "
        f"{scale.rounds} rounds, SGD lr {common['training.learning_rate']:g}, batches of "
        f"{common['training.batch_size']}, {common['training.epochs']} local epoch, clip {CLIP:g}, "
        f"server step {common['aggregation.server_lr']:g}, delta {DELTA:g}; votes: ten validators, "
        "judge robust, q = 5, look-back 4, from round 5 on"
    )


LEGEND = (
    "noise: of the sum, in units of clip. spent: epsilon as the run's last record says it. FP: "
    "candidates that were rejected, of all that were voted on; nobody attacks. In parentheses: "
    "the lowest and the highest repeat."
)

SETUP = Setup(SCALES, MODELS, setup.planner(PrivacyPlan, SCALES, COMMON, MODELS), describe, LEGEND)


def cases(plan: PrivacyPlan) -> list[Case]:
    """Make the grid: data, epsilon, votes, seed."""
    return [
        plan.case({"data": data, "agents": n, "epsilon": epsilon, "votes": votes, "seed": seed})
        for seed in plan.seeds
        for data in plan.sets
        for n in plan.scale.fleets
        for epsilon in EPSILONS
        for votes in VOTES
    ]


def alarms(result: Result) -> Count:
    """Count the candidates that were voted on, and those that were rejected."""
    return errors(result.records, ()).alarms


def tables(results: list[Result]) -> list[Table]:
    """Return a row for each number of agents and epsilon, with votes and without."""
    rows: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        _, _, epsilon, votes = key
        rows.append(
            dict(zip(COLUMNS, key, strict=True))
            | {
                "noise": round(values[0].settings.privacy.noise, 3),
                "spent": Mean(tuple(map(spent, values)), "") if EPSILONS[str(epsilon)] else None,
                "accuracy at the end": Mean(tuple(last(r, "accuracy") for r in values)),
                "FP": rate(values, alarms) if votes == "on" else None,
            }
        )
    return [Table("", "Accuracy by epsilon, with votes and without", rows)]


def spent(result: Result) -> float:
    """Return the epsilon that a run has spent; 0 where it had no noise to spend by."""
    said = result.records[-1].privacy
    return (said and said.epsilon) or 0.0


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw accuracy by round, the mean over seeds, a panel a fleet; dashed with votes."""
    groups = by(results, "data", "agents")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    for axes, ((data, n), values) in zip(panels, groups.items(), strict=True):
        _curves(axes, values)
        axes.set_title(f"{n:,} agents, {data}", fontsize=10)
    panels[-1].set_xlabel("round")
    pictures.legend(figure)


def _curves(axes: Axes, results: list[Result]) -> None:
    for (epsilon, votes), values in by(results, "epsilon", "votes").items():
        curves = np.array([[r.model.accuracy or 0.0 for r in one.records] for one in values])
        axes.plot(
            range(1, curves.shape[1] + 1),
            100 * curves.mean(axis=0),
            "--" if votes == "on" else "-",
            color=COLOURS[str(epsilon)],
            label=(f"epsilon {epsilon}" if EPSILONS[str(epsilon)] else "no noise")
            + (", votes" if votes == "on" else ""),
        )
    axes.set(ylabel="accuracy (%)", ylim=(0, 100))
    axes.grid(alpha=0.25)


EXPERIMENT = Experiment(
    line="central differential privacy: accuracy at epsilon 2, 8 and without, votes on and off",
    title="Accuracy by epsilon",
    setup=SETUP,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 7.0),
    only=("agents", "epsilon", "votes"),
    poisoned=lambda _: set(),
    note=(
        "The noise is the least with which all rounds together spend epsilon, by the RDP "
        "accountant of dp-accounting, for full participation. It comes from the system's "
        "generator, so that rows with noise are not the same when they are run again."
    ),
)
