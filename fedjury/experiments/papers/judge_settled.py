"""Why BAFFLE's judge rejects good models: on models that fit their validators' data, and others."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from fedjury.config.settings import Settings
from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Job, Labels, Records, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import (
    Mean,
    alarms,
    by,
    judged,
    missed,
    rate,
    voted,
)
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, calm, defence, undefended

COLUMNS = ("base", "step", "samples")

KEPT_BACK = {"small": (0.9, 0.1)}
"""Shares of the training set that are kept back: agents share the rest. Else the scale's first."""

FITTED = 10_000
"""The most samples that a network of the small scale is fitted to: the mlp gets .92 of 54,000."""

METRIC = "accuracy"
"""What agents measure of a candidate on their own data."""

PASSES = 2_200_000
"""Samples that a fitted model sees, if that is so many epochs:"""

EPOCHS = {"mlp": (40, 180), "lenet": (40, 40)}
"""The fewest and the most that each network is fitted with."""


def cases(plan: BafflePlan) -> list[Case]:
    """Make the grid: samples of an agent, model to start from, server step."""
    grid = [
        (kept, base, step)
        for kept in KEPT_BACK.get(plan.scale.name, plan.scale.splits[:1])
        for base in ("federated", "fitted")
        for step in STEPS
        if base == "federated" or plan.scale.name == "paper" or plan.train * (1 - kept) < FITTED
    ]
    return [case(plan, seed, *point) for point in grid for seed in plan.seeds]


def case(plan: BafflePlan, seed: int, kept: float, base: str, step: str) -> Case:
    """Make one cell: clients vote by the paper's judge, and some agents measure the candidate."""
    samples = round(plan.train * (1 - kept) / plan.settings(seed, {}).agents.n)
    changes: dict[str, Any] = {
        "data.server": kept,
        "agents.samples": samples,
        "aggregation.server_lr": STEPS[step],
        "evaluation.fraction": 0.1,
    } | defence("clients", "lof")
    labels: Labels = {"base": base, "step": step, "samples": str(samples), "seed": seed}
    made = plan.case(labels, changes)
    if base == "federated":
        return made
    start = fitted(made.settings)
    return Case(labels, made.job._replace(start=start, before=calm(made.settings, start)))


def fitted(settings: Settings) -> Job:
    """Say how a model is made that fits what agents hold: one agent that holds all of it."""
    agents = settings.agents
    total = agents.n * agents.sizes if isinstance(agents.sizes, int) else 0
    fewest, most = EPOCHS.get(settings.model.name, (40, 40))
    epochs = min(max(PASSES // max(total, 1), fewest), most)
    alone = undefended(settings, 1).replaced(
        agents=agents.replaced(n=1, malicious=0.0, samples=total, split="iid"),
        sampling=settings.sampling.replaced(client_fraction=1.0),
        aggregation=settings.aggregation.replaced(server_lr=1.0),
        backdoor=settings.backdoor.replaced(inject=[]),
        evaluation=settings.evaluation.replaced(fraction=0.0),
        training=settings.training.replaced(
            epochs=epochs, batch_size=64, optimizer="adam", learning_rate=0.002, momentum=0.0
        ),
    )
    return Job(f"fitted seed{settings.run.seed}", alone)


# ---------------------------------------------------------------- what is read off the records


def benign(result: Result) -> Records:
    """Return the records of good candidates that were voted on."""
    poisoned = result.settings.backdoor.inject
    return [record for record in voted(result.records) if judged(record) not in poisoned]


def zeros(result: Result) -> float:
    """Return the share of zero change vectors among the votes on good candidates."""
    told = [record.votes.zero_changes for record in benign(result)]
    return fmean([share for share in told if share is not None] or [0.0])


def changed(result: Result) -> float:
    """Return how many answers a good candidate changes, the mean of its voters."""
    voters = [one for record in benign(result) for one in record.votes.voters.values()]
    return fmean([one.changed for one in voters if one.changed is not None] or [0.0])


def fit(result: Result) -> float:
    """Return the accuracy of good candidates on the data of agents."""
    found = [record.candidate.metrics for record in benign(result) if record.candidate]
    return fmean([values[METRIC] for values in found if METRIC in values] or [0.0])


def one_voter(result: Result) -> Count:
    """Count the votes on good candidates that call them poisoned."""
    votes = [record.votes for record in benign(result)]
    return Count(sum(v.poisoned for v in votes), sum(v.poisoned + v.clean for v in votes))


def _mean(values: list[Result], of: Callable[[Result], float], unit: str = "%") -> Mean:
    return Mean(tuple(map(of, values)), unit)


def tables(results: list[Result]) -> list[Table]:
    """Return the table of cells."""
    rows: list[Row] = [
        dict(zip(COLUMNS, key, strict=True))
        | {
            "right on agents' data": _mean(values, fit),
            "zero change vectors": _mean(values, zeros),
            "answers changed by a candidate": _mean(values, changed, ""),
            "one voter's FP": rate(values, one_voter),
            "quorum's FP": rate(values, alarms),
            "FN": rate(values, missed),
        }
        for key, values in by(results, *COLUMNS).items()
    ]
    return [Table("", "Good models that BAFFLE's judge rejects, by what they change", rows)]


def counts(result: Result) -> Row:
    """Return the figures of one run."""
    return {
        "right on agents' data": fit(result),
        "zero change vectors": zeros(result),
        "answers changed by a candidate": changed(result),
        "one voter's FP": one_voter(result),
    }


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the rates of false alarms against the share of zero change vectors, a point a run."""
    groups = by(results, "base", "step")
    names = [f"{base}, {step}" for base, step in groups]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, count, title in zip(
        panels, (one_voter, alarms), ("one voter's FP", "the quorum's FP (q = 5)"), strict=True
    ):
        for name, values in zip(names, groups.values(), strict=True):
            counts = [(zeros(result), count(result)) for result in values]
            points = [(x, found.hits / found.of) for x, found in counts if found.of]
            look = pictures.style(names, name) | {"linestyle": "none"}
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, ms=5, **look)
        axes.plot([0, 1], [1, 0], color="#777777", lw=0.8, label="one minus the share of zeros")
        axes.set_title(title, fontsize=10)
        pictures.as_rate(axes, "FP")
        axes.set(xlabel="share of zero change vectors", xlim=(-0.04, 1.04))
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="why BAFFLE's judge rejects good models: false alarms by what good rounds change",
    title="False alarms of BAFFLE's judge by what good rounds change",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(10.0, 4.8),
    counts=counts,
    only=("base", "step", "samples"),
    note=(
        "base: the model that the federation starts from, federated by honest rounds or fitted by "
        "one agent that holds all their data; samples: of an agent, all others kept back. A change "
        "vector is the class-wise errors of the last accepted model minus those of the candidate "
        "on a validator's data. All figures are of good candidates."
    ),
)
