"""Counting votes against one judgement of all error counts, with few validators, little data."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import alarms_effect, by, harm
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence
from fedjury.experiments.papers.baffle_stable import error_lines, rates

COLUMNS = ("samples", "decide", "validators")


def cases(plan: BafflePlan) -> list[Case]:
    """Make the grid: samples of an agent, way to decide, number of validators."""
    return [
        case(plan, seed, samples, decide, validators)
        for seed in plan.seeds
        for samples in plan.scale.holdings
        for decide in ("count", "pooled")
        for validators in (2, 5, 10)
    ]


def case(plan: BafflePlan, seed: int, samples: int, decide: str, validators: int) -> Case:
    """Make one cell; half of the validators are a quorum. ``samples``: 0 shares all data out."""
    changes: dict[str, Any] = {
        "data.server": plan.scale.splits[0],
        "aggregation.server_lr": STEPS["mean"],
    } | defence(
        "clients", "calibrated", validators=validators, quorum=validators // 2, decide=decide
    )
    if samples:
        changes["agents.samples"] = samples
    labels = {"samples": samples or "all", "decide": decide, "validators": validators, "seed": seed}
    return plan.case(labels, changes)


def tables(results: list[Result]) -> list[Table]:
    """Return the table of errors."""
    rows: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        missed, alarms = rates(values)
        held = values[0].settings.agents.samples
        rows.append(
            dict(zip(COLUMNS, key, strict=True))
            | {
                "samples": held,
                "FN": missed,
                "FP": alarms,
                **harm(values),
            }
        )
    return [Table("", "Errors of the calibrated judge, plain mean, quorum half of the votes", rows)]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw FN and FP against the number of validators."""
    lines = error_lines(
        results,
        COLUMNS,
        lambda r: f"{r.labels['decide']}, {r.settings.agents.samples} samples",
    )
    pictures.errors(figure, lines, alarms_effect(results), "validators")


EXPERIMENT = Experiment(
    line="ours: counting votes against one judgement of all error counts",
    title="Counting votes or pooling error counts, calibrated judge, plain mean",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(10.0, 4.6),
    note=(
        "count: the quorum, half of the validators, rejects; pooled: the server asks the judge "
        "once about the sum of their error counts. Not in the paper."
    ),
)
