"""Crowd against robustness: how large groups may be, by how many agents are malicious."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from fedjury.config.settings import load
from fedjury.experiments.engine import pictures, setup
from fedjury.experiments.engine.case import Case, Job, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count, total
from fedjury.experiments.engine.metrics import Mean, Measured, by, harm, lately, let_in, rate
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.experiments.engine.tables import Row, Table
from fedjury.learning.datasets.dataset import Dataset

COLUMNS = ("attack", "defence", "size", "share")

VOTES = {"validation.validators": 10, "validation.quorum": 5, "validation.judge": "robust"}

DEFENCES: Mapping[str, dict[str, Any]] = {
    "mean": {},
    "median": {"aggregation.rule": "median"},
    "trimmed mean": {"aggregation.rule": "trimmed_mean", "aggregation.options": {"share": 0.2}},
    "votes on groups": VOTES | {"validation.on": "groups"},
    "votes on both": VOTES | {"validation.on": "both"},
}
"""Defences as tables call them -> what is set for them; the rule is the mean unless said."""

ATTACKS: Mapping[str, dict[str, Any]] = {
    "MPAF": {"agents.attack": "mpaf", "agents.scale": 1e6},
    "backdoor": {"agents.attack": "backdoor", "backdoor.replaces": "group"},
}


@dataclass(frozen=True)
class CrowdScale(Scale):
    """The sizes of the experiment."""

    sizes: tuple[int, ...] = (1, 5, 10, 20, 50, 100)
    shares: tuple[float, ...] = (0.01, 0.05, 0.1, 0.2)
    quiet: int = 16
    """Rounds before the attack; groups are judged once so many have been accepted."""
    attacked: int = 8
    """Rounds of attack."""


@dataclass(frozen=True)
class CrowdPlan(Plan):
    """What it is run with: one data set."""

    scale: CrowdScale


SCALES = {
    "small": CrowdScale("small", ("fashion-mnist",), {"agents.n": 100, "agents.samples": 200}),
    "paper": CrowdScale(
        "paper",
        ("fashion-mnist",),
        {"agents.n": 1000, "agents.samples": 55},
        sizes=(1, 5, 10, 20, 50, 100, 1000),
        quiet=30,
        attacked=20,
    ),
    "tiny": CrowdScale(
        "tiny",
        ("digits",),
        {"agents.n": 12, "agents.samples": 40, "data.test": 300},
        sizes=(1, 4),
        shares=(0.1,),
        quiet=6,
        attacked=2,
    ),
}

MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.1, "training.momentum": 0.5}
}
"""Networks, with their local SGD."""

COMMON: dict[str, Any] = {
    "agents.split": "dirichlet",
    "agents.alpha": 0.9,
    "training.epochs": 2,
    "training.batch_size": 25,
    "aggregation.rule": "mean",
    "aggregation.server_lr": 1.0,
    "detection.detectors": [],
    "validation.validators": 0,
    "limits.finite": False,
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
}


def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> CrowdPlan:
    """Plan the experiment on the one data set."""
    size = SCALES[scale]
    common = setup.common(size, COMMON, MODELS, model)
    [(name, data)] = sets.items()
    return CrowdPlan(size, common | {"data.name": name}, {name: len(data.y_train)}, seeds)


def cases(plan: CrowdPlan) -> list[Case]:
    """Make the grid: attack, defence, size of groups, share of malicious agents."""
    return [
        case(plan, seed, attack, defence, size, share)
        for seed in plan.seeds
        for attack in ATTACKS
        for defence in DEFENCES
        for size in plan.scale.sizes
        for share in plan.scale.shares
    ]


def case(plan: CrowdPlan, seed: int, attack: str, defence: str, size: int, share: float) -> Case:
    """Make one cell."""
    scale = plan.scale
    first, last = scale.quiet + 1, scale.quiet + scale.attacked
    labels: Labels = {
        "attack": attack,
        "defence": defence,
        "size": size,
        "share": share,
        "seed": seed,
    }
    given = dict(plan.common) | {
        "run.seed": seed,
        "run.rounds": last,
        "groups.size": size,
        "agents.malicious": share,
        "validation.look_back": scale.quiet - 2,
        "validation.minimum_history": scale.quiet - 2,
    }
    strikes: dict[str, Any] = {"agents.start": first} if attack == "MPAF" else {}
    if attack == "backdoor":
        strikes = {"backdoor.inject": list(range(first, last + 1))}
    settings = load(overrides=given | ATTACKS[attack] | strikes | DEFENCES[defence])
    return Case(labels, Job(" ".join(f"{value}" for value in labels.values()), settings))


def left_out(result: Result) -> Count:
    """Count the groups of the rounds of attack, and those that were left out."""
    first = result.records[-1].round - _attacked(result) + 1
    groups = [r.groups for r in result.records if r.round >= first and r.groups]
    return total(Count(len(one.left_out), len(one.groups)) for one in groups)


def _attacked(result: Result) -> int:
    rounds = result.settings.run.rounds
    return len(result.settings.backdoor.inject) or rounds - result.settings.agents.start + 1


def tables(results: list[Result]) -> list[Table]:
    """Return what each cell ends at."""
    rows = [
        _row(dict(zip(COLUMNS, key, strict=True)), values)
        for key, values in by(results, *COLUMNS).items()
    ]
    return [Table("", "What is left of the model, by size of groups and share of attackers", rows)]


def _row(labels: Row, values: list[Result]) -> Row:
    return {
        **labels,
        "accuracy": Mean(tuple(lately(r, "accuracy", 2) for r in values)),
        "backdoor": Mean(tuple(lately(r, "backdoor", 2) for r in values)),
        "groups left out": rate(values, left_out),
        **harm(values),
    }


def counts(result: Result) -> Row:
    """Count what one run came to."""
    return {
        "accuracy": lately(result, "accuracy", 2),
        "backdoor": lately(result, "backdoor", 2),
        "largest let in": let_in(result) or 0.0,
        "groups left out": left_out(result),
    }


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw accuracy under MPAF above the backdoor's success, a panel for each share."""
    shares = [share for (share,) in by(results, "share")]
    panels = figure.subplots(2, len(shares), sharex=True, sharey="row", squeeze=False)
    names = [str(name) for (name,) in by(results, "defence")]
    sizes = sorted(int(size) for (size,) in by(results, "size"))
    shown: tuple[tuple[str, Measured, str], ...] = (
        ("MPAF", "accuracy", "accuracy"),
        ("backdoor", "backdoor", "backdoor"),
    )
    for row, (attack, figure_of, text) in enumerate(shown):
        for column, share in enumerate(shares):
            axes = panels[row][column]
            for name in names:
                chosen = {"attack": attack, "share": share, "defence": name}
                some = [r for r in results if chosen.items() <= r.labels.items()]
                points = {
                    float(size): [lately(r, figure_of, 2) for r in values]
                    for (size,), values in by(some, "size").items()
                }
                means = [sum(values) / len(values) for values in points.values()]
                axes.plot(list(points), means, label=name, **pictures.style(names, name))
            axes.set(xscale="log", ylim=(0, 1), xlabel="agents in a group" if row else "")
            axes.set_xticks(sizes, [f"{size}" for size in sizes])
            axes.minorticks_off()
            axes.set_title(f"{share:.0%} malicious: {attack}", fontsize=8)
            axes.grid(alpha=0.25)
        panels[row][0].set_ylabel(text)
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="groups by size, share of malicious agents, attack and defence: crowd against robustness",
    title="Crowd against robustness",
    setup=Setup(
        SCALES,
        MODELS,
        plan,
        lambda plan: (
            f"{plan.common['agents.n']} agents, all train in each round; {plan.scale.quiet} quiet "
            f"rounds, then {plan.scale.attacked} of attack"
        ),
        "accuracy, backdoor: means of the last two rounds.",
    ),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 6.5),
    only=COLUMNS,
    counts=counts,
    note=(
        "MPAF: fakes without data. Backdoor: each attacker boosts its update so that the mean of a "
        "group with the usual number of them becomes their model. Votes: ten validators, five of "
        "whom leave a group out or reject a candidate, judge robust."
    ),
)
