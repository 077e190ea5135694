"""The look-back table of BAFFLE: a trained model is attacked in three rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import (
    Mean,
    Rate,
    alarms,
    alarms_effect,
    by,
    harm,
    last,
    measured,
    missed,
    rate,
)
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence, split_name

WHO = ("server", "clients", "both")
COLUMNS = ("judge", "step", "l", "who", "split", "attack")
PAPER = "paper, CIFAR-10 / FEMNIST"

Line = dict[str, dict[float, Rate]]
"""Name -> x -> rate."""

Calm = dict[tuple[str | int | float, ...], float]
"""(step, split, seed) -> the accuracy at the end of a run without attack."""


def cases(plan: BafflePlan) -> list[Case]:
    """Make the paper's grid, ours beside it, and runs without defence for reference."""
    scale = plan.scale
    grid: list[tuple[str, str, int, str, float, str]] = [
        ("lof", "eta/N", look_back, agent, server, "yes")
        for look_back in scale.look_backs
        for agent in WHO
        for server in scale.splits
    ]
    ours = [("lof", "mean"), ("calibrated", "eta/N"), ("calibrated", "mean")]
    grid += [
        (*pair, scale.look_back, agent, server, "yes")
        for pair in ours
        for agent in WHO
        for server in scale.splits
    ]
    grid += [
        ("none", step, 0, "nobody", server, attack)
        for step in STEPS
        for server in scale.splits
        for attack in ("no", "yes")
    ]
    return [case(plan, seed, *point) for seed in plan.seeds for point in grid]


def case(
    plan: BafflePlan,
    seed: int,
    judge: str,
    step: str,
    look_back: int,
    agent: str,
    server: float,
    attack: str,
) -> Case:
    """Make one cell."""
    labels: Labels = {
        "judge": judge,
        "step": step,
        "l": look_back,
        "who": agent,
        "split": split_name(server),
        "attack": attack,
        "seed": seed,
    }
    changes: dict[str, Any] = {"data.server": server, "aggregation.server_lr": STEPS[step]}
    if judge != "none":
        changes |= defence(agent, judge, look_back=look_back)
    if attack == "no":
        changes["backdoor.inject"] = []
    return plan.case(labels, changes)


def tables(results: list[Result]) -> list[Table]:
    """Return the look-back table, and the targets."""
    calm: Calm = {
        (r.labels["step"], r.labels["split"], r.labels["seed"]): last(r, "accuracy")
        for r in results
        if r.labels["attack"] == "no"
    }
    rows = [
        _row(dict(zip(COLUMNS, key, strict=True)), values, calm)
        for key, values in by(results, *COLUMNS).items()
    ]
    return [
        Table("", "Errors by look-back l, configuration and split (q = 5)", rows),
        Table("targets", "Targets", _targets(results, calm)),
    ]


def _row(key: dict[str, str | int | float], values: list[Result], calm: Calm) -> Row:
    row: dict[str, str | int | float | Rate | Mean | None] = dict(key)
    look_back, agent, split = int(key["l"]), str(key["who"]), str(key["split"])
    row["l"] = look_back or None
    judged = key["judge"] != "none"
    wrong = rates(values)
    papers = key["judge"] == "lof" and key["step"] == "eta/N"
    row |= {
        "FN": wrong[0] if judged else None,
        f"FN {PAPER}": published.shown(published.missed(look_back, agent, split)) if papers else "",
        "FP": wrong[1] if judged else None,
        f"FP {PAPER}": published.shown(published.alarms(look_back, agent)) if papers else "",
        "accuracy at the end": Mean(tuple(last(r, "accuracy") for r in values)),
        "less than without attack (points)": cost(values, calm),
        "backdoor as injected": Mean(tuple(x for r in values for x in measured(r))),
        "backdoor at the end": Mean(tuple(last(r, "backdoor") for r in values)),
    }
    return row | harm(values)


def rates(values: list[Result]) -> tuple[Rate, Rate]:
    """Return the rates of false negatives and false positives."""
    return rate(values, missed), rate(values, alarms)


def error_lines(
    results: list[Result], columns: tuple[str, ...], name: Callable[[Result], str]
) -> tuple[Line, Line]:
    """Return FN and FP by the last of some labels, a line for each name of what is grouped."""
    lines: tuple[Line, Line] = ({}, {})
    for key, values in by(results, *columns).items():
        for line, one in zip(lines, rates(values), strict=True):
            line.setdefault(name(values[0]), {})[float(key[-1])] = one
    return lines


def cost(values: list[Result], calm: Calm) -> Mean:
    """Return what runs end below those without attack and without defence, seed by seed."""
    return Mean(
        tuple(
            calm[r.labels["step"], r.labels["split"], r.labels["seed"]] - last(r, "accuracy")
            for r in values
        ),
        "points",
    )


def _targets(results: list[Result], calm: Calm) -> list[Row]:
    """Set what was to be reached beside what was seen: l = 20, clients or both, all splits."""
    rows: list[Row] = []
    for (judge, step, agent), values in by(_central(results), "judge", "step", "who").items():
        wrong = rates(values)
        case = f"{judge}, step {step}, {agent}"
        strict = judge == "calibrated"
        if strict or step == "eta/N":
            rows.append(target(f"FN, {case}", wrong[0], 0.02 if strict else 0.1))
            rows.append(target(f"FP, {case}", wrong[1], 0.02 if strict else None))
        rows.append(target(f"accuracy lost, {case}", cost(values, calm), 0.01))
    return rows


def _central(results: list[Result]) -> list[Result]:
    """Return the cells that targets are about; at the scale of tests, those in their place."""
    looks = [int(r.labels["l"]) for r in results if r.labels["l"]]
    look_back = 20 if 20 in looks else looks[0]
    return [r for r in results if r.labels["l"] == look_back and r.labels["who"] != "server"]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw FN above FP by look-back, a column for each split."""
    judged = [r for r in results if r.labels["judge"] != "none"]
    splits, effect = by(judged, "split"), alarms_effect(results)
    axes = figure.subplots(2, len(splits), squeeze=False, sharex=True, sharey=True)
    for column, ((split,), values) in enumerate(splits.items()):
        published_step = [r for r in values if r.labels["step"] == "eta/N"]
        lines = error_lines(
            published_step,
            ("judge", "who", "l"),
            lambda r: f"{r.labels['judge']}, {r.labels['who']}",
        )
        for row, name in enumerate(("FN", "FP")):
            pictures.rates(axes[row, column], lines[row], effect, gap=10)
            pictures.as_rate(axes[row, column], name)
        axes[0, column].set_title(f"client-server split {split}", fontsize=10)
        axes[1, column].set(
            xlabel="look-back l (accepted models)",
            xticks=sorted({int(r.labels["l"]) for r in judged}),
        )
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="look-back table: l x configuration x split, a trained model attacked in three rounds",
    title="BAFFLE on a stable model, q = 5, step eta/N",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 7.0),
    note=(
        "Step eta/N: the mean of the updates of the agents called times 0.1, which is 1/N of "
        "their sum; mean: the plain mean. lof: VALIDATE of the paper; calibrated: ours. nobody: no "
        "defence. The defence is on after the warm-up; the attacker replaces the model."
    ),
)
