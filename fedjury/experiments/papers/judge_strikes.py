"""Attackers who ask the judge first: cells and tables of judge-adaptive and judge-always."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import metrics, pictures
from fedjury.experiments.engine.case import Case, Records, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate, alarms_effect, by, hidden, last, rate
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import STEPS, defence
from fedjury.experiments.papers.baffle_adaptive import TOOK, rejected, strength, submitted
from fedjury.experiments.papers.judge_setup import (
    OTHERS,
    SETTING,
    JudgePlan,
    false_alarms,
    poisoned,
    scales_of,
    setup_of,
)

Attackers = Mapping[str, dict[str, Any]]
"""Attackers as tables call them -> their settings."""

COLUMNS = ("data", "step", "judge", "attacker")
MOST = 0.45
"""Target: the largest backdoor that may ever be let in."""

Calm = dict[tuple[str | int | float, ...], float]
"""(data, step, seed) -> the accuracy at the end of a run without attack and without defence."""


def cases(
    plan: JudgePlan, attackers: Attackers, strikes: list[int], judges: Mapping[str, dict[str, Any]]
) -> list[Case]:
    """Make the grid: data, step, judge and attacker; and runs that nobody attacks."""
    grid: list[tuple[str, str, dict[str, Any]]] = [
        (judge, attacker, defence("clients", **judges[judge]) | dict(settings))
        for judge in judges
        for attacker, settings in attackers.items()
    ]
    rounds = {"run.rounds": strikes[-1], "backdoor.inject": strikes}
    grid.append(("none", "none", {"backdoor.inject": []}))
    # Not from shared first rounds: the attacker judges by the models it has heard itself.
    return [
        plan.of(data).case(
            {"data": data, "step": step, "judge": judge, "attacker": attacker, "seed": seed},
            {"aggregation.server_lr": STEPS[step]} | rounds | changes,
            shared=False,
        )
        for seed in plan.seeds
        for data in plan.sets
        for step in STEPS
        for judge, attacker, changes in grid
    ]


def largest(result: Result) -> float:
    """Return the largest backdoor in a model that was accepted since the first strike."""
    return metrics.let_in(result) or 0.0


def largest_strike(result: Result) -> float:
    """Return the largest backdoor in a candidate with poison that was accepted."""
    return max((hidden(record) for record in submitted(result) if record.accepted), default=0.0)


def took(result: Result) -> Records:
    """Return the records of candidates with poison that had the backdoor."""
    return [record for record in submitted(result) if hidden(record) >= TOOK]


def let_in(result: Result) -> Count:
    """Count the strikes that took, and those of them that were accepted."""
    hits = took(result)
    return Count(sum(bool(record.accepted) for record in hits), len(hits))


def counts(result: Result) -> Row:
    """Count what one run submitted, and what became of it."""
    if not result.settings.backdoor.inject:
        return {}
    return {
        "strikes": len(result.settings.backdoor.inject),
        "caught": rejected(submitted(result)),
        "let in of those that took": let_in(result),
        "largest let in": largest(result),
        "largest strike let in": largest_strike(result),
    }


def tables(results: list[Result]) -> list[Table]:
    """Return what became of the strikes, and the targets."""
    calm: Calm = {
        (r.labels["data"], r.labels["step"], r.labels["seed"]): last(r, "accuracy")
        for r in results
        if r.labels["judge"] == "none"
    }
    attacked = [r for r in results if r.labels["judge"] != "none"]
    rows = [
        _row(dict(zip(COLUMNS, key, strict=True)), values, calm)
        for key, values in by(attacked, *COLUMNS).items()
    ]
    return [
        Table("", "Strikes of attackers who ask the judge first", rows),
        Table("targets", "Targets, over all attackers", _targets(attacked)),
    ]


def _row(labels: Row, values: list[Result], calm: Calm) -> Row:
    sent = rate(values, lambda r: rejected(submitted(r)))
    entered = rate(values, let_in)
    each = [largest(r) for r in values]
    return {
        **labels,
        "submitted": sent.of,
        "strength": Mean(tuple(strength(x) for r in values for x in submitted(r)), ""),
        "caught": sent,
        "took": entered.of,
        "let in of those": entered,
        "largest let in": max(each),
        "by seed": " ".join(f"{value:.2f}" for value in each),
        "largest strike let in": max(map(largest_strike, values)),
        **false_alarms(values),
        "less than without attack (points)": cost(values, calm),
    }


def cost(values: list[Result], calm: Calm) -> Mean:
    """Return what runs end below those without attack and without defence, seed by seed."""
    places = [((r.labels["data"], r.labels["step"], r.labels["seed"]), r) for r in values]
    lost = [calm[place] - last(r, "accuracy") for place, r in places if place in calm]
    return Mean(tuple(lost), "points")


def _targets(results: list[Result]) -> list[Row]:
    rows: list[Row] = []
    for (data, step, judge), values in by(results, *COLUMNS[:3]).items():
        case, strict = f"{data}, {step}, {judge}", judge not in OTHERS
        most = Mean((max(map(largest, values)),), "")
        rows += [
            target(f"took and let in, {case}", rate(values, let_in), 0.0 if strict else None),
            target(f"largest let in, {case}", most, MOST if strict else None),
            target(f"FP, {case}", false_alarms(values)["FP"], SETTING if strict else None),
        ]
    return rows


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the largest backdoor that each run let in, and the share of strikes caught."""
    attacked = [r for r in results if r.labels["judge"] != "none"]
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = list(by(attacked, "data", "step", "attacker"))
    judges = [str(judge) for (judge,) in by(attacked, "judge")]
    caught: dict[str, dict[float, Rate]] = {}
    for (judge, *place), values in by(attacked, "judge", "data", "step", "attacker").items():
        x = float(places.index(tuple(place)))
        shift = (judges.index(str(judge)) - (len(judges) - 1) / 2) * pictures.APART
        style = pictures.style(judges, str(judge)) | {"linestyle": "none"}
        upper.plot([x + shift] * len(values), list(map(largest, values)), **style)
        caught.setdefault(str(judge), {})[x] = rate(values, lambda r: rejected(submitted(r)))
    upper.axhline(TOOK, color="black", ls="--", lw=1)
    pictures.as_rate(upper, "largest backdoor let in")
    pictures.rates(lower, caught, alarms_effect(results, poisoned), joined=False)
    pictures.as_rate(lower, "caught, of strikes submitted")
    pictures.cells_below(lower, places)
    pictures.legend(figure)


NOTE = (
    "submitted: strikes that passed the attacker's own judge, however weak; in the other rounds of "
    "the attack it trained honestly, and they count as benign. strength: the share of the step to "
    f"its model that passed. A strike took if the backdoor succeeds in {TOOK:.0%} or more of its "
    "trial in the candidate. largest let in: the largest backdoor in any model accepted since the "
    "first strike, of all repeats and by seed; largest strike: only in candidates with poison. "
    "less than without attack: at the end, "
    "against the same seed without attack and without defence."
)


def experiment(
    line: str, title: str, cases: Callable[[JudgePlan], list[Case]]
) -> Experiment[JudgePlan]:
    """Return an experiment of strikes on two data sets, with these tables and this picture."""
    return Experiment(
        line=line,
        title=title,
        setup=setup_of(scales_of("fashion-mnist", "mnist5k")),
        cases=cases,
        tables=tables,
        draw=draw,
        size=(11.0, 8.0),
        only=COLUMNS,
        counts=counts,
        poisoned=poisoned,
        note=NOTE,
    )
