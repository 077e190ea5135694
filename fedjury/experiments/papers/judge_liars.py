"""Judges and liars: exactly so many among the ten voters of each round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count, total
from fedjury.experiments.engine.metrics import Rate, alarms_effect, by, flagged, rate
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import STEPS, VALIDATORS, defence
from fedjury.experiments.papers.exact_liars import name_of
from fedjury.experiments.papers.judge_setup import (
    JUDGES,
    OTHERS,
    SETTING,
    JudgePlan,
    alarms,
    flags,
    poisoned,
    scales_of,
    setup_of,
)
from fedjury.experiments.papers.judge_strikes import largest, let_in, took

LIES = ("hide", "deny", "adaptive")
"""Vote clean on poison, or poisoned on clean, or both where that may decide; else honestly."""

NUMBERS = (2, 3, 4)
WITHSTOOD = 2
"""Liars of ten up to which the targets hold."""

SURER = 0.001
"""False alarms asked for where counts are pooled without what liars could claim: what is left is
more skewed than the judge takes it to be (docs/judges.md)."""

COLUMNS = ("data", "step", "judge", "lie", "liars")
PLACE = COLUMNS[:3]


def cases(plan: JudgePlan) -> list[Case]:
    """Make the grid: data, step, judge, how they lie, how many; and without liars."""
    grid = [("none", 0), *((lie, number) for lie in LIES for number in NUMBERS)]
    return [
        case(plan, seed, data, step, judge, lie, number)
        for seed in plan.seeds
        for data in plan.sets
        for step in STEPS
        for judge in JUDGES
        if judge != "lof"
        for lie, number in grid
    ]


def told(judge: str, liars: int) -> dict[str, Any]:
    """Return what is set of the section validation: pooled counts withstand so many liars."""
    chosen = dict(JUDGES[judge])
    if liars and chosen.get("decide") == "pooled":
        chosen |= {"tolerated_malicious": liars, "options": {"false_alarm": SURER}}
    return chosen


def case(
    plan: JudgePlan, seed: int, data: str, step: str, judge: str, lie: str, liars: int
) -> Case:
    """Make one cell; the attacker strikes in every third round with a vote, whoever votes."""
    first, scale, one = plan.scale.warm_up, plan.scale, plan.of(data)
    strikes = list(range(first + 3, first + scale.judged + 1, 3))
    changes: dict[str, Any] = {
        "run.rounds": strikes[-1],
        "backdoor.inject": strikes,
        "aggregation.server_lr": STEPS[step],
        "agents.vote_attack": "honest",
    }
    if liars:
        n = one.settings(seed, {}).agents.n
        changes["agents.malicious_validators"] = 1.0
        changes["agents.vote_attack"] = name_of(lie, liars, n)
    labels: Labels = {
        "data": data,
        "step": step,
        "judge": judge,
        "lie": lie,
        "liars": liars,
        "seed": seed,
    }
    return one.case(labels, changes | defence("clients", **told(judge, liars)))


def seen(result: Result) -> Count:
    """Count the votes on strikes that took, and those that call one poisoned."""
    return total(map(flagged, took(result)))


def counts(result: Result) -> Row:
    """Count what one run let in, and how its voters saw the strikes that took."""
    return {"let in of those that took": let_in(result), "seen by one": seen(result)}


def at_least(wanted: int, of: int, share: float) -> float:
    """Return the probability of so many hits or more, of independent ones."""
    from scipy.stats import binom  # type: ignore[import-untyped] # noqa: PLC0415 - slow

    return float(binom.sf(wanted - 1, of, share))


def independent(result: Result, honest: list[Result]) -> tuple[float | None, float | None]:
    """Return what would be let in, and rejected wrongly, if honest voters were independent.

    ``honest``: the runs without liars, which say how honest voters see strikes and good rounds.
    Pooled counts are no votes: nothing is said of them.
    """
    if result.settings.validation.decide == "pooled":
        return None, None
    found, wrong = rate(honest, seen).value, rate(honest, flags).value
    lie, liars = str(result.labels["lie"]), int(result.labels["liars"])
    quorum = result.settings.validation.needed
    hiding = 0 if lie == "deny" else liars
    denying = liars if lie == "deny" else 0
    missed = None if found is None else 1 - at_least(quorum, VALIDATORS - hiding, found)
    rejected = None if wrong is None else at_least(quorum - denying, VALIDATORS - denying, wrong)
    return missed, rejected


def tables(results: list[Result]) -> list[Table]:
    """Return errors by the number of liars, and the targets."""
    honest = by([r for r in results if not r.labels["liars"]], *PLACE)
    rows: list[Row] = []
    targets: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        missed, wrong = independent(values[0], honest[key[:3]])
        entered, false = rate(values, let_in), rate(values, alarms)
        rows.append(
            {
                **dict(zip(COLUMNS, key, strict=True)),
                "took": entered.of,
                "let in of those": entered,
                "if independent": missed,
                "largest let in": max(map(largest, values)),
                "FP": false,
                "FP if independent": wrong,
            }
        )
        number = int(key[4])
        if 0 < number <= WITHSTOOD:
            case_, strict = ", ".join(map(str, key)), key[2] not in OTHERS
            targets += [
                target(f"took and let in, {case_}", entered, 0.0 if strict else None),
                target(f"FP, {case_}", false, SETTING if strict else None),
            ]
    return [
        Table("", "Errors by the number of liars among the ten voters, q = 5", rows),
        Table("targets", f"Targets: {WITHSTOOD} liars of ten", targets),
    ]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw what was let in and rejected wrongly, by liars, a column for each data set and step."""
    places = by(results, "data", "step")
    axes = figure.subplots(2, len(places), squeeze=False, sharex=True, sharey="row")
    effect = alarms_effect(results, poisoned)
    for column, ((data, step), values) in enumerate(places.items()):
        _panel(axes[0, column], "let in, of those that took", lines(values, let_in), effect)
        _panel(axes[1, column], "false alarms", lines(values, alarms), effect)
        axes[0, column].set_title(f"{data}, step {step}", fontsize=10)
        axes[1, column].set(xlabel="liars of ten voters", xticks=(0, *NUMBERS))
    pictures.legend(figure)


def lines(results: list[Result], count: Callable[[Result], Count]) -> dict[str, dict[float, Rate]]:
    """Return a rate by the number of liars, a line for each judge and lie."""
    found: dict[str, dict[float, Rate]] = {}
    groups = by(results, "judge", "lie", "liars")
    for (judge, lie, liars), values in groups.items():
        for name in LIES if lie == "none" else (lie,):
            found.setdefault(f"{judge}, {name}", {})[float(liars)] = rate(values, count)
    return found


def _panel(
    axes: Axes, name: str, rates: dict[str, dict[float, Rate]], effect: float | None
) -> None:
    pictures.rates(axes, rates, effect)
    pictures.as_rate(axes, name)


EXPERIMENT = Experiment(
    line="judges with exactly 0, 2, 3 and 4 liars among the ten voters",
    title="Liars among ten voters, q = 5",
    setup=setup_of(scales_of("fashion-mnist")),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 8.0),
    only=COLUMNS[:4],
    counts=counts,
    poisoned=poisoned,
    note=(
        "hide: vote clean on poison; deny: vote poisoned on clean; adaptive: hide, and deny what "
        "is in doubt. Those who come first in the "
        "draw of a round's voters lie. The attacker replaces the model in every third round and "
        "does not ask the judge. if independent: what the same quorum would come to if honest "
        "voters, who see strikes and good rounds as they do without liars, were independent. "
        "pooled: with liars it is told how many, and asked for false alarms of "
        f"{SURER:g}."
    ),
)
