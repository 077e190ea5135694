"""Votes and privacy together: a backdoor against groups whose updates nobody sees."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.config.settings import Settings, load
from fedjury.experiments.engine import pictures, setup
from fedjury.experiments.engine.case import Case, Job, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import Mean, by, harm, hidden, last, let_in, rate
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers import group_votes
from fedjury.learning.datasets.dataset import Dataset
from fedjury.protocol.record import RoundRecord

COLUMNS = ("updates", "votes on")

CLEAR, MASKED = "in the clear", "under masks"

ARMS = (
    (CLEAR, "groups"),
    (MASKED, "groups"),
    (MASKED, "nothing"),
    (CLEAR, "nothing"),
    (CLEAR, "candidate"),
)
"""How updates are sent, and what is voted on; the candidate: BAFFLE, without groups."""

LOST, LARGEST = 0.01, 0.2
"""Targets: accuracy lost by masks; the largest backdoor let in."""


@dataclass(frozen=True)
class SecureScale(Scale):
    """The sizes of the experiment."""

    size: int = 50
    """Agents in a group."""
    warm_up: int = 12
    """Rounds before the first vote."""
    strikes: int = 5
    """An attack in every third round after them."""
    validators: int = 20
    history: int = 10
    """Accepted models, or groups, that a judge needs; its look-back is two more."""


@dataclass(frozen=True)
class SecurePlan(Plan):
    """What it is run with: one data set."""

    scale: SecureScale


SCALES = {
    "small": SecureScale("small", ("fashion-mnist",), {"agents.n": 1000, "agents.samples": 60}),
    "paper": SecureScale(
        "paper", ("fashion-mnist",), {"agents.n": 1000, "agents.samples": 60}, strikes=30
    ),
    "tiny": SecureScale(
        "tiny",
        ("digits",),
        {"agents.n": 12, "agents.malicious": 0.084, "agents.samples": 40, "data.test": 300},
        size=4,
        warm_up=5,
        strikes=1,
        validators=8,
        history=4,
    ),
}

MODELS: Mapping[str, dict[str, Any]] = {
    "mlp": {"training.learning_rate": 0.1, "training.momentum": 0.5}
}
"""Networks, with their local SGD."""

COMMON: dict[str, Any] = {
    "agents.malicious": 0.001,
    "agents.attack": "backdoor",
    "agents.split": "dirichlet",
    "agents.alpha": 0.9,
    "training.epochs": 2,
    "training.batch_size": 20,
    "backdoor.task": "label_flip",
    # Drawn by the seed, so that groups in the clear and under masks are the same.
    "groups.by_seed": True,
    # No deadline may decide on a slow machine.
    "collect.seconds": 3600.0,
    "collect.patience": 60.0,
    "groups.seconds": 3600.0,
    "validation.seconds": 3600.0,
}
"""The settings of all cells, as "section.key" -> value."""


def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> SecurePlan:
    """Plan the experiment on the one data set."""
    size = SCALES[scale]
    common = setup.common(size, COMMON, MODELS, model)
    [(name, data)] = sets.items()
    return SecurePlan(size, common | {"data.name": name}, {name: len(data.y_train)}, seeds)


def cases(plan: SecurePlan) -> list[Case]:
    """Make the grid: how updates are sent, what is voted on."""
    return [case(plan, seed, *arm) for seed in plan.seeds for arm in ARMS]


def case(plan: SecurePlan, seed: int, updates: str, on: str) -> Case:
    """Make one cell. Those with the same groups share the rounds before the first vote."""
    settings = settings_of(plan, seed, updates, on)
    before = None
    if on != "candidate":
        quiet = settings_of(plan, seed, updates, "groups")
        quiet = quiet.replaced(run=quiet.run.replaced(rounds=plan.scale.warm_up))
        before = Job(f"quiet {updates} seed{seed}", quiet)
    labels: Labels = {"updates": updates, "votes on": on, "seed": seed}
    title = " ".join(f"{value}" for value in labels.values())
    return Case(labels, Job(title, settings, before=before))


def settings_of(plan: SecurePlan, seed: int, updates: str, on: str) -> Settings:
    """Make a run's settings."""
    scale = plan.scale
    strikes = [scale.warm_up + 3 * (i + 1) for i in range(scale.strikes)]
    changes: dict[str, Any] = {
        "run.seed": seed,
        "run.rounds": strikes[-1],
        "backdoor.inject": strikes,
        "backdoor.replaces": "round" if on == "candidate" else "group",
        "groups.size": 1 if on == "candidate" else scale.size,
        "groups.secure": updates == MASKED,
        "validation.warm_up": scale.warm_up,
        "validation.look_back": scale.history + 2,
        "validation.minimum_history": scale.history,
    }
    if on != "nothing":
        changes |= {
            "validation.on": on,
            "validation.validators": scale.validators,
            "validation.quorum": scale.validators // 2,
            "validation.judge": "robust",
        }
    return load(overrides=dict(plan.common) | changes)


def describe(plan: SecurePlan) -> str:
    """Say in a few words what was run."""
    common, scale = plan.common, plan.scale
    return (
        f"{common['agents.n']} agents with {common['agents.samples']} samples each, Dirichlet "
        f"{common['agents.alpha']:g}, all train in each round, groups of {scale.size}; "
        f"{scale.warm_up} rounds without a vote, then an attack in every third, "
        f"{scale.strikes} in all; {scale.validators} validators, "
        f"q = {scale.validators // 2}, judge robust, look-back {scale.history + 2}"
    )


# ---------------------------------------------------------------- what a run came to


def before_it(result: Result) -> float:
    """Return the backdoor's success in the last model before the first attack."""
    first = min(result.settings.backdoor.inject)
    return next((r.model.backdoor or 0.0 for r in result.records if r.round == first - 1), 0.0)


def up(result: Result) -> float:
    """Return the kB that an agent sends in a round, votes included, shared out among all."""
    sent = sum(record.traffic.bytes_in or 0 for record in result.records)
    return sent / 1000 / max(1, sum(record.selected for record in result.records))


def sent(result: Result) -> float:
    """Return the MB that the aggregator sends in a round with an attack."""
    return statistics.mean((r.traffic.bytes_out or 0) / 1e6 for r in _struck(result))


def seconds(result: Result) -> float:
    """Return how long the median round took."""
    return statistics.median(record.timing.seconds or 0.0 for record in result.records)


def _struck(result: Result) -> list[RoundRecord]:
    inject = set(result.settings.backdoor.inject)
    return [record for record in result.records if record.round in inject]


def counts(result: Result) -> Row:
    """Count what one run came to."""
    return {
        "strikes let in": group_votes.let_in(result),
        "FN of groups": group_votes.missed(result),
        "FP of groups": group_votes.alarms(result),
        "backdoor before": before_it(result),
        "largest let in": let_in(result) or 0.0,
        "up an agent (kB)": up(result),
        "sent by the aggregator (MB)": sent(result),
        "clipped": clipped(result),
        "seconds a round": seconds(result),
    }


def clipped(result: Result) -> float:
    """Return which share of the coordinates was clipped, on average."""
    return statistics.mean(
        record.groups.clipped if record.groups else 0.0 for record in result.records
    )


def tables(results: list[Result]) -> list[Table]:
    """Return what masks and votes come to, and the targets."""
    arms = by(results, *COLUMNS)
    rows = [_row(dict(zip(COLUMNS, key, strict=True)), values) for key, values in arms.items()]
    return [
        Table("", "A backdoor against groups, with masks and without", rows),
        Table("targets", "Targets", _targets(results)),
    ]


def _row(labels: Row, values: list[Result]) -> Row:
    accuracies = [last(result, "accuracy") for result in values]
    strikes = (hidden(record) for result in values for record in _struck(result))
    voted = [r.groups for one in values for r in one.records if r.groups and r.groups.voters]
    down = Mean(tuple(groups.cost[0] / 1000 for groups in voted), "kB")
    return {
        **labels,
        "accuracy at the end": Mean(tuple(accuracies)),
        "its sd (points)": round(100 * statistics.stdev(accuracies), 2) if accuracies[1:] else None,
        **harm(values),
        "backdoor before": Mean(tuple(map(before_it, values)), ""),
        "backdoor in the candidate": Mean(tuple(strikes), ""),
        "strikes let in": rate(values, group_votes.let_in),
        "FN of groups": rate(values, group_votes.missed),
        "FP of groups": rate(values, group_votes.alarms),
        "rejected rounds": rate(values, group_votes.rejected),
        "up an agent (kB)": _mean(up, values, "kB"),
        "sent by the aggregator (MB)": _mean(sent, values, "MB"),
        "down a validator (kB)": down if voted else None,
        "coordinates clipped": _mean(clipped, values, "") if labels["updates"] == MASKED else None,
        "seconds a round": _mean(seconds, values, "s"),
    }


def _mean(figure: Callable[[Result], float], values: list[Result], unit: str) -> Mean:
    return Mean(tuple(figure(result) for result in values), unit)


def _targets(results: list[Result]) -> list[Row]:
    """Compare seeds of both kinds that were run with votes on groups."""
    arms = by(results, *COLUMNS)
    clear, masked = (arms.get((updates, "groups"), []) for updates in (CLEAR, MASKED))
    there = {result.labels["seed"]: last(result, "accuracy") for result in clear}
    lost = tuple(
        there[seed] - last(result, "accuracy")
        for result in masked
        if (seed := result.labels["seed"]) in there
    )
    return [
        target("accuracy lost by masks, votes on groups", Mean(lost, "points"), LOST),
        target("largest let in, masks and votes", harm(masked)["largest let in"], LARGEST),
    ]


# ---------------------------------------------------------------- picture


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the mean accuracy above the largest backdoor of any repeat, since the warm-up."""
    upper, lower = figure.subplots(2, 1, sharex=True)
    arms = by(results, *COLUMNS)
    names = [_name(key) for key in arms]
    for key, values in arms.items():
        style = pictures.style(names, _name(key)) | {"markersize": 3, "label": _name(key)}
        upper.plot(*_curve(values, "accuracy", np.mean), **style)
        lower.plot(*_curve(values, "backdoor", np.max), **style)
    for axes, text in ((upper, "accuracy, mean"), (lower, "backdoor, largest")):
        _mark(axes, results)
        axes.set_ylabel(text)
        axes.grid(alpha=0.25)
    lower.set_ylim(bottom=0)
    lower.set_xlabel("round (dotted: attacks)")
    pictures.legend(figure)


def _name(key: tuple[object, ...]) -> str:
    return f"{key[0]}, votes on {key[1]}"


def _curve(values: list[Result], figure: str, over: Callable[..., Any]) -> tuple[Any, Any]:
    """Return rounds, and a figure of their models over all repeats."""
    first = values[0].settings.validation.warm_up
    rounds = [record.round for record in values[0].records if record.round >= first]
    rows = [
        [getattr(r.model, figure) or 0.0 for r in one.records if r.round >= first] for one in values
    ]
    return rounds, over(np.array(rows), axis=0)


def _mark(axes: Axes, results: list[Result]) -> None:
    for strike in results[0].settings.backdoor.inject:
        axes.axvline(strike, color="#999999", linestyle=":", lw=0.8)


EXPERIMENT = Experiment(
    line="secure aggregation with votes on groups, beside groups in the clear and masks alone",
    title="A backdoor against groups",
    setup=Setup(SCALES, MODELS, plan, describe, "In parentheses: the lowest and the highest run."),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(14.0, 7.0),
    only=COLUMNS,
    counts=counts,
    poisoned=group_votes.poisoned,
    note=(
        "One attacker boosts its update so that the mean of its group becomes its model; against "
        "votes on the candidate, where there are no groups, so that the round's does. Largest let "
        "in, accuracy lost: of the model, from the first attack on. Backdoor before: how often the "
        "model before the first attack confuses these two classes by itself. FN of groups: groups "
        "with the attacker's update that were not left out, FP: others that were. What an agent "
        "sends has all steps and votes in it; what the aggregator sends to all counts once. Groups "
        "are drawn by the seed here, so that they are the same with masks and without."
    ),
)
