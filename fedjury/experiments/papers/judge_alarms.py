"""False alarms of judges: benign runs by data set and samples an agent."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import Mean, Rate, alarms_effect, by, last
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import VALIDATORS, defence
from fedjury.experiments.papers.judge_setup import (
    JUDGES,
    OTHERS,
    SETTING,
    JudgePlan,
    false_alarms,
    poisoned,
    scales_of,
    setup_of,
)

COLUMNS = ("judge", "data", "samples", "step")
CELL = COLUMNS[:3]
"""What a target is about."""

STEPS = ("eta/N", "mean")

DEALT = 0.55
"""Share of the training set that is dealt at most: more, and a Dirichlet split runs out of some
class and deals its samples twice."""

SELECTED = 10
"""Agents that train in a round, or half of all."""

DIGITS = (13, 30, 75)
"""Samples of each agent with digits, of which there are few."""


def holdings(plan: JudgePlan, data: str) -> dict[int, int]:
    """Return how many samples agents hold, and how many agents there are.

    Nobody is dealt another's samples, and there are ten validators at least.
    """
    most = int(plan.common["agents.n"])
    sizes = DIGITS if data == "digits" else plan.scale.held
    found = {held: min(most, int(DEALT * plan.sets[data] / held)) for held in sizes}
    return {held: n for held, n in found.items() if n >= VALIDATORS}


def cases(plan: JudgePlan) -> list[Case]:
    """Make the grid: data, samples of each agent, step, judge."""
    return [
        case(plan, seed, judge, data, held, n, step)
        for seed in plan.seeds
        for data in plan.sets
        for held, n in holdings(plan, data).items()
        for step in STEPS
        for judge in JUDGES
        if judge != "lof"
    ]


def case(plan: JudgePlan, seed: int, judge: str, data: str, held: int, n: int, step: str) -> Case:
    """Make one cell: nobody is malicious."""
    selected = min(SELECTED, n // 2)
    changes: dict[str, Any] = {
        "run.rounds": plan.scale.warm_up + plan.scale.benign,
        "agents.n": n,
        "agents.malicious": 0.0,
        "agents.samples": held,
        "agents.repeats": False,
        "sampling.client_fraction": selected / n,
        "aggregation.server_lr": selected / n if step == "eta/N" else 1.0,
        "backdoor.inject": [],
    }
    labels: Labels = {"judge": judge, "data": data, "samples": held, "step": step, "seed": seed}
    return plan.of(data).case(labels, changes | defence("clients", **JUDGES[judge]))


def tables(results: list[Result]) -> list[Table]:
    """Return the rates of false alarms, and the targets."""
    rows: list[Row] = [
        {
            **dict(zip(COLUMNS, key, strict=True)),
            "agents": values[0].settings.agents.n,
            **false_alarms(values),
            "accuracy at the end": Mean(tuple(last(r, "accuracy") for r in values)),
        }
        for key, values in by(results, *COLUMNS).items()
    ]
    return [
        Table("", f"False alarms of benign runs, at a setting of {SETTING:g}", rows),
        Table("targets", "Targets", _targets(results)),
    ]


def _targets(results: list[Result]) -> list[Row]:
    rows: list[Row] = []
    for (judge,), several in by(results, "judge").items():
        strict = judge not in OTHERS
        rows += [
            target(
                f"FP of one, {', '.join(map(str, cell))}",
                false_alarms(values)["FP of one"],
                2 * SETTING if strict else None,
            )
            for cell, values in by(several, *CELL).items()
        ]
        whole = false_alarms(several)["FP"]
        rows.append(target(f"FP, {judge}, all cells", whole, SETTING if strict else None))
    return rows


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the false alarms of one voter above those of the quorum, by cell."""
    panels = figure.subplots(2, 1, sharex=True)
    places = list(by(results, *COLUMNS[1:]))
    lines: tuple[dict[str, dict[float, Rate]], ...] = ({}, {})
    for (judge, *place), values in by(results, *COLUMNS).items():
        found = false_alarms(values)
        for line, column in zip(lines, ("FP of one", "FP"), strict=True):
            line.setdefault(str(judge), {})[float(places.index(tuple(place)))] = found[column]
    effect = alarms_effect(results, poisoned)
    for axes, line, name in zip(panels, lines, ("one voter", "quorum"), strict=True):
        pictures.rates(axes, line, effect, joined=False)
        axes.axhline(SETTING, color="black", ls="--", lw=1, label=f"setting {SETTING:g}")
        axes.set(ylabel=f"false alarms, {name} (share)", ylim=(0, None))
        axes.grid(alpha=0.25)
    pictures.cells_below(panels[-1], places)
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="false alarms of judges in benign runs, by data set and samples of each agent",
    title="False alarms of benign runs",
    setup=setup_of(scales_of("fashion-mnist", "mnist5k", "digits", changes={"data.test": 300})),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 7.5),
    only=COLUMNS,
    poisoned=poisoned,
    note=(
        "Nobody attacks, and nobody is dealt another's samples. Ten agents train in a round, or "
        "half of them where there are fewer than twenty. Targets: one voter at most twice the "
        "setting in each cell, both steps together, and the quorum at most the setting over all."
    ),
)
