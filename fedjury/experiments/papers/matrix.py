"""Every attack against every rule: what is left of the model, and who was caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import HARM, Mean, by, harm, last
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers.matrix_plan import GUARDS, MATRIX, NONE, MatrixPlan
from fedjury.learning.partition import partition_spec_of

PLACE = ("data", "guard", "attack", "rule")
SETTLED = 2
"""Rounds after the strike that detectors are given before they are held against the truth."""


def cases(plan: MatrixPlan) -> list[Case]:
    """Make a cell for each data set, guard, attack, rule and seed."""
    return [
        plan.case({"data": data, "guard": defence, "attack": attack, "rule": rule, "seed": seed})
        for seed in plan.seeds
        for data in plan.sets
        for defence in GUARDS
        for attack in plan.scale.attacks
        for rule in plan.scale.columns
    ]


def tables(results: list[Result]) -> list[Table]:
    """Return a row for each cell, then what each rule keeps at its worst, and who was caught."""
    return [
        Table("", "All cells", cells_in_rows(results)),
        Table("worst", "Each rule at its worst: lowest accuracy, and who did it", worst(results)),
        Table("caught", "Detection, over all rules", caught(results)),
    ]


def cells_in_rows(results: list[Result]) -> list[Row]:
    """Return all figures of each cell."""
    calm = {key: values for key, values in by(results, *PLACE).items() if key[2] == NONE}
    rows: list[Row] = []
    for key, values in by(results, *PLACE).items():
        data, defence, _, rule = key
        rows.append(
            dict(zip(PLACE, key, strict=True))
            | {
                "accuracy": mean(values, accuracy),
                "no attack": mean(calm.get((data, defence, NONE, rule), []), accuracy),
                "backdoor": mean(values, lambda r: r.records[-1].model.backdoor),
                "precision": mean(values, lambda r: over(r, "precision")),
                "recall": mean(values, lambda r: over(r, "recall")),
                "wrongly quarantined": mean(values, wrongly, ""),
                "rejected": mean(values, lambda r: sum(x.accepted is False for x in r.records), ""),
                "MB a round": mean(values, megabytes, ""),
                "seconds": mean(
                    values, lambda r: sum(x.timing.seconds or 0.0 for x in r.records), ""
                ),
                **harm(values),
            }
        )
    return rows


Measure = Callable[[Result], "float | int | None"]


def mean(results: Iterable[Result], figure: Measure, unit: str = "%") -> Mean:
    """Return a figure over seeds; of those runs that have it."""
    return Mean(tuple(float(x) for x in map(figure, results) if x is not None), unit)


def accuracy(result: Result) -> float:
    """Return the accuracy after the last round."""
    return last(result, "accuracy")


def over(result: Result, figure: str) -> float | None:
    """Return the mean of a figure over the rounds since detectors could know."""
    since = result.settings.agents.start + SETTLED
    values = [
        value
        for record in result.records
        if record.round >= since and (value := getattr(record.truth, figure, None)) is not None
    ]
    return sum(values) / len(values) if values else None


def wrongly(result: Result) -> int:
    """Count the honest agents that were in quarantine at the worst moment."""
    return max(r.truth.wrongly_quarantined or 0 for r in result.records if r.truth)


def megabytes(result: Result) -> float:
    """Return the megabytes that went through the aggregator's door, a round."""
    traffic = [record.traffic for record in result.records]
    total = sum((one.bytes_in or 0) + (one.bytes_out or 0) for one in traffic)
    return total / 1e6 / len(result.records)


def worst(results: list[Result]) -> list[Row]:
    """Return each rule's accuracy without attack and under the attack that hurts it most."""
    rows: list[Row] = []
    for (data, rule), values in by(results, "data", "rule").items():
        row: dict[str, Any] = {"data": data, "rule": rule}
        for (defence,), guarded in by(values, "guard").items():
            seen = {
                attack: mean(runs, accuracy) for (attack,), runs in by(guarded, "attack").items()
            }
            attacked = {name: result.value or 0.0 for name, result in seen.items() if name != NONE}
            name = min(attacked, key=attacked.__getitem__, default=NONE)
            row |= {
                f"{defence}: no attack": seen.get(NONE),
                f"{defence}: worst": seen.get(name),
                f"{defence}: by": name,
            }
        rows.append(row)
    return rows


def caught(results: list[Result]) -> list[Row]:
    """Return how well detectors did against each attack, without and with quarantine."""
    return [
        {
            "data": data,
            "attack": attack,
            "guard": defence,
            "precision": mean(values, lambda r: over(r, "precision")),
            "recall": mean(values, lambda r: over(r, "recall")),
            "honest ones ever flagged": mean(values, flagged, ""),
            "wrongly quarantined": mean(values, wrongly, ""),
        }
        for (data, attack, defence), values in by(results, "data", "attack", "guard").items()
    ]


def flagged(result: Result) -> int:
    """Count the honest agents that were flagged in some round."""
    spec = partition_spec_of(result.settings)
    malicious = {spec.name(number) for number in spec.malicious_agents}
    return len({name for record in result.records for name in record.flagged} - malicious)


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw a heat map of accuracy for each guard; darker is worse."""
    data = results[0].labels["data"]
    groups = by([r for r in results if r.labels["data"] == data], "guard")
    panels = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axes, ((defence,), values) in zip(panels, groups.items(), strict=True):
        heat(axes, values)
        axes.set_title(f"{defence} ({data})", fontsize=10)


def heat(axes: Axes, results: list[Result]) -> None:
    """Draw attack x rule, each field with its accuracy in percent."""
    result = {
        key: mean(several, accuracy).value for key, several in by(results, "attack", "rule").items()
    }
    attacks, rules = (list(dict.fromkeys(str(key[i]) for key in result)) for i in (0, 1))
    values = np.array([[result.get((a, r)) or np.nan for r in rules] for a in attacks]) * 100
    axes.imshow(values, cmap="gray", vmin=0, vmax=110, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        axes.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value < 55 else "black",
        )
    axes.set_xticks(range(len(rules)), rules, rotation=35, ha="right", fontsize=8)
    axes.set_yticks(range(len(attacks)), attacks, fontsize=8)


EXPERIMENT = Experiment(
    line="all attacks against all rules, alone, with validators and with quarantine",
    title="Accuracy in percent after the last round",
    setup=MATRIX,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 15.0),
    only=("attack", "rule", "guard"),
    note=(
        "backdoor: its success at the end, where the attack has one. precision: of those flagged "
        "in a round or in quarantine after it, the share that is evil; recall: the share of the "
        "evil that they are; the mean over the rounds from the third after the strike on. "
        "wrongly quarantined: honest agents, at the worst moment. MB a round: in and out of the "
        "aggregator. seconds: of all rounds, on whatever machine this was. "
        f"{HARM}"
    ),
)
