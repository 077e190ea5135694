"""An attacker who knows the judge, and submits only what would pass on its own data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Records, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import (
    Mean,
    Rate,
    alarms,
    alarms_effect,
    attacked,
    by,
    harm,
    hidden,
    rate,
)
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence, split_name
from fedjury.experiments.papers.baffle_stable import WHO
from fedjury.protocol.record import RoundRecord

COLUMNS = ("judge", "attacker judges", "step", "who", "split")
TOOK = 0.5
"""Success of the backdoor in a candidate from which an injection counts as one."""


def cases(plan: BafflePlan) -> list[Case]:
    """Make the grid: judge, what the attacker judges on, configuration, step and split."""
    common = {"agents.attack": "adaptive", "backdoor.inject": list(plan.scale.often)}
    first, *others = plan.scale.splits
    places = [("all", step, first) for step in STEPS] + [("clean", step, first) for step in STEPS]
    places += [("all", "eta/N", server) for server in others]
    # Not from shared first rounds: the attacker judges by the models it has heard itself.
    return [
        plan.case(
            {
                "judge": judge,
                "attacker judges": on,
                "step": step,
                "who": agent,
                "split": split_name(server),
                "seed": seed,
            },
            common
            | {
                "data.server": server,
                "aggregation.server_lr": STEPS[step],
                "backdoor.judged_clean": on == "clean",
            }
            | defence(agent, judge),
            shared=False,
        )
        for seed in plan.seeds
        for judge in ("lof", "calibrated")
        for agent in WHO
        for on, step, server in places
    ]


def took(result: Result) -> Records:
    """Return the records of injections that put the backdoor into the candidate."""
    return [r for r in attacked(result) if hidden(r) >= TOOK]


def submitted(result: Result) -> Records:
    """Return the records of rounds in which the attacker submitted poison, however weak."""
    return [r for r in attacked(result) if strength(r) > 0]


def strength(record: RoundRecord) -> float:
    """Return how strongly the attackers struck in a round; 0 if they did not."""
    return (record.truth and record.truth.strength) or 0.0


def caught(results: list[Result], among: Callable[[Result], Records] = submitted) -> Rate:
    """Return the share of injections which were rejected."""
    return rate(results, lambda result: rejected(among(result)))


def rejected(records: Records) -> Count:
    """Count the rejected of some rounds."""
    return Count(sum(not record.accepted for record in records), len(records))


def counts(result: Result) -> Row:
    """Count what was submitted and what took, and how much of each was rejected."""
    return {"caught": rejected(submitted(result)), "caught of those": rejected(took(result))}


def passed(results: list[Result]) -> list[float]:
    """Return the backdoor's success in the candidates of injections that were accepted."""
    return [hidden(r) for result in results for r in submitted(result) if r.accepted]


def tables(results: list[Result]) -> list[Table]:
    """Return the table, how many validators flagged an injection, and the target."""
    rows: list[Row] = []
    for key, values in by(results, *COLUMNS).items():
        labels = dict(zip(COLUMNS, key, strict=True))
        sent, hits = caught(values), caught(values, took)
        papers = labels["judge"] == "lof" and labels["step"] == "eta/N"
        text = published.adaptive(str(labels["who"]), str(labels["split"])) if papers else ""
        rows.append(
            labels
            | {
                "rounds": sum(len(attacked(r)) for r in values),
                "submitted": sent.of,
                "strength": Mean(tuple(strength(x) for r in values for x in submitted(r)), ""),
                "caught": sent,
                "took": hits.of,
                "caught of those": hits,
                "backdoor in what passed": Mean(tuple(passed(values))),
                "FN": sent.rest,
                "FN paper, CIFAR-10": text,
                "FP": rate(values, alarms),
                **harm(values),
            }
        )
    return [
        Table("", "Adaptive injections", rows),
        Table("flags", "Injections by the number of agents that flagged them", _flags(results)),
        Table("targets", "Targets (clients or both)", _targets(results)),
    ]


def flags(results: list[Result]) -> Counter[int]:
    """Count injections by how many agents, without the server, flagged them."""
    return Counter(
        sum(vote.poisoned for name, vote in record.votes.voters.items() if name[0] != ":")
        for result in results
        for record in submitted(result)
    )


def voting(results: list[Result]) -> list[Result]:
    """Return the runs in which agents vote."""
    return [r for r in results if r.labels["who"] != "server"]


def _flags(results: list[Result]) -> list[Row]:
    counts = {
        str(judge): flags(values) for (judge,), values in by(voting(results), "judge").items()
    }
    return [
        {"flagged by": number} | {judge: count[number] for judge, count in counts.items()}
        for number in range(11)
    ]


def _targets(results: list[Result]) -> list[Row]:
    return [
        target(
            f"caught, {judge}, attacker judges {on}, step {step}{of}",
            caught(values, among),
            least=0.95 if judge == "calibrated" else None,
        )
        for (judge, on, step), values in by(voting(results), *COLUMNS[:3]).items()
        for of, among in (("", submitted), (", of those that took", took))
    ]


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw how many agents flagged an injection, and the share that was caught."""
    left, right = figure.subplots(1, 2)
    groups = by(voting(results), "judge")
    for number, ((judge,), values) in enumerate(groups.items()):
        count = flags(values)
        x = np.arange(11) + (number - (len(groups) - 1) / 2) * 0.4
        grey = ("#dddddd", "#7f9fbf")[number % 2]
        left.bar(
            x,
            [count[i] for i in range(11)],
            0.38,
            label=f"{judge} (bars)",
            edgecolor="black",
            color=grey,
            hatch=pictures.HATCHES[number],
        )
    left.axvline(4.5, color="black", ls="--", lw=1, label="quorum")
    left.set(xlabel='agents of 10 who said "poisoned"', ylabel="injections", xticks=range(11))
    lines: dict[str, dict[float, Rate]] = {}
    places = list(by(results, *COLUMNS[1:]))
    for (judge, *place), values in by(results, *COLUMNS).items():
        lines.setdefault(str(judge), {})[float(places.index(tuple(place)))] = caught(values)
    pictures.rates(right, lines, alarms_effect(results), joined=False)
    pictures.as_rate(right, "caught, of injections submitted")
    pictures.cells_below(right, places)
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="an attacker who runs the judge itself first: caught, and flagged by how many",
    title="BAFFLE against an adaptive attacker, q = 5",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 5.0),
    counts=counts,
    note=(
        "submitted: poison that passed the attacker's own judge; in the other rounds it stood "
        "down. It judges on all its data, or on the clean part, without the class it attacks. "
        "strength: the share of the step to its model that passed. It took if the backdoor "
        f"succeeds in half or more of its trial. {published.ADAPTIVE}."
    ),
)
