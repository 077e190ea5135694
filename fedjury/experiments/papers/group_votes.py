"""Votes on groups against votes on the round: what one poisoned update costs the honest ones."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count, total
from fedjury.experiments.engine.metrics import Mean, Rate, by, harm, hidden, last, rate
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import defence
from fedjury.experiments.papers.judge_setup import JudgePlan, scales_of, setup_of
from fedjury.learning.partition import partition_spec_of
from fedjury.protocol.groups import Groups
from fedjury.protocol.record import RoundRecord

COLUMNS = ("votes on", "judge", "replaces")
JUDGES = ("calibrated", "robust", "lof", "flshield")
SIZE = 10
"""Agents in a group."""

KEPT, WRONG = 0.85, 0.02
"""Targets: honest updates kept in poisoned rounds; groups wrongly left out, or wrongly kept."""

STRICT = "calibrated"
"""The judge that has targets."""


def cases(plan: JudgePlan) -> list[Case]:
    """Make the grid: what is voted on, the judge, and whose mean the attacker makes its model."""
    grid = [
        (on, judge, replaces)
        for on in ("candidate", "groups", "both")
        for judge in JUDGES
        for replaces in ("group", "round")
        if judge in (STRICT, "robust") or on == "groups"
    ]
    grid.append(("nothing", "none", "round"))
    return [case(plan, seed, *point) for seed in plan.seeds for point in grid]


def case(plan: JudgePlan, seed: int, on: str, judge: str, replaces: str) -> Case:
    """Make one cell: all agents train in each round, and the attacker strikes in every third."""
    first, scale = plan.scale.warm_up, plan.scale
    strikes = list(range(first + 3, first + 2 * scale.judged + 1, 3))
    agents = int(plan.common["agents.n"])
    changes: dict[str, Any] = {
        "run.rounds": strikes[-1],
        "sampling.client_fraction": 1.0,
        "aggregation.server_lr": 1.0,
        "backdoor.inject": strikes,
        "backdoor.replaces": replaces,
        "groups.size": min(SIZE, agents // 3),
    }
    if on != "nothing":
        compared = judge == "flshield"
        changes |= defence("clients", "lof" if compared else judge, on=on)
        changes["validation.group_judge"] = judge if compared else ""
    labels: Labels = {"votes on": on, "judge": judge, "replaces": replaces, "seed": seed}
    [data] = plan.sets
    one = plan.of(data)
    # Not from shared first rounds: these have no groups that could be remembered. The base is that
    # of other experiments, of ten agents a round.
    cell = one.case(labels, changes, shared=False)
    return cell._replace(job=cell.job._replace(start=one.base(one.settings(seed, {}))))


def evil(result: Result) -> frozenset[str]:
    """Return the names of the malicious agents of a run."""
    spec = partition_spec_of(result.settings)
    return frozenset(spec.name(number) for number in spec.malicious_agents)


def poisoned(result: Result) -> set[int]:
    """Return the rounds in which the attacker struck."""
    return {*result.settings.backdoor.inject}


def kept(result: Result) -> Count:
    """Count the honest updates of poisoned rounds, and those that an accepted model is made of."""
    out = evil(result)
    return total(
        Count(_kept(record, out), record.updates - len(out))
        for record in result.records
        if record.round in poisoned(result)
    )


def _kept(record: RoundRecord, out: frozenset[str]) -> int:
    """Return how many honest updates the accepted model of a round is made of."""
    if not record.accepted:
        return 0
    gone = record.groups.members_left_out if record.groups else frozenset[str]()
    return record.updates - len(out) - len(gone - out)


def missed(result: Result) -> Count:
    """Count the groups with poison on which there was a vote, and those that stayed."""
    return total(_groups(r, result, poison=True, left_out=False) for r in result.records)


def alarms(result: Result) -> Count:
    """Count the groups without poison on which there was a vote, and those that were left out."""
    return total(_groups(r, result, poison=False, left_out=True) for r in result.records)


def _groups(record: RoundRecord, result: Result, *, poison: bool, left_out: bool) -> Count:
    groups = record.groups or Groups()
    if not groups.voters:
        return Count(0, 0)
    out = evil(result) if record.round in poisoned(result) else frozenset[str]()
    these = [g for g in groups.groups.values() if poison is not out.isdisjoint(g.members)]
    return Count(sum(bool(group.why) is left_out for group in these), len(these))


def let_in(result: Result) -> Count:
    """Count the poisoned rounds, and those whose accepted model holds the attacker's update."""
    out = evil(result)
    counted = [record for record in result.records if record.round in poisoned(result)]
    entered = sum(
        bool(r.accepted) and not (r.groups and out <= r.groups.members_left_out) for r in counted
    )
    return Count(entered, len(counted))


def counts(result: Result) -> Row:
    """Count what one run came to."""
    return {
        "kept": kept(result),
        "let in": let_in(result),
        "FN of groups": missed(result),
        "FP of groups": alarms(result),
    }


def tables(results: list[Result]) -> list[Table]:
    """Return what poisoned rounds cost, and the targets."""
    rows = [
        _row(dict(zip(COLUMNS, key, strict=True)), values)
        for key, values in by(results, *COLUMNS).items()
    ]
    return [
        Table("", "What a poisoned update costs the honest ones", rows),
        Table("targets", "Targets", _targets(results)),
    ]


def _row(labels: Row, values: list[Result]) -> Row:
    prices = [
        record.groups.cost
        for result in values
        for record in result.records
        if record.groups and record.groups.voters
    ]
    down = Mean(tuple(size / 1000 for size, _ in prices), "kB")
    return {
        **labels,
        "strikes": rate(values, let_in).of,
        "honest updates kept": rate(values, kept),
        "strikes let in": rate(values, let_in),
        "FN of groups": rate(values, missed),
        "FP of groups": rate(values, alarms),
        "rejected rounds": rate(values, rejected),
        "accuracy at the end": Mean(tuple(last(r, "accuracy") for r in values)),
        "backdoor as injected": Mean(
            tuple(hidden(x) for r in values for x in r.records if x.round in poisoned(r))
        ),
        "down a validator (kB)": down if prices else None,
        "processor time (ms)": Mean(tuple(cpu / 1000 for _, cpu in prices), "ms")
        if prices
        else None,
        **harm(values),
    }


def rejected(result: Result) -> Count:
    """Count the rounds after the warm-up, and those whose candidate was rejected."""
    first = result.settings.validation.warm_up
    voted = [record for record in result.records if record.round > first]
    return Count(sum(not record.accepted for record in voted), len(voted))


def _targets(results: list[Result]) -> list[Row]:
    rows: list[Row] = []
    for (on, judge, replaces), values in by(results, *COLUMNS).items():
        if on not in ("candidate", "groups") or judge != STRICT:
            continue
        name, strict = f"votes on {on}, {judge}, {replaces}", on == "groups"
        lost = rate(values, kept).rest
        rows.append(target(f"honest updates lost, {name}", lost, 1 - KEPT if strict else None))
        if strict:
            rows += [
                target(f"FN of groups, {name}", rate(values, missed), WRONG),
                target(f"FP of groups, {name}", rate(values, alarms), WRONG),
            ]
    return rows


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the honest updates kept in poisoned rounds above what was let in."""
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = list(by(results, *COLUMNS[:2]))
    lines: tuple[dict[str, dict[float, Rate]], ...] = ({}, {})
    for (on, judge, replaces), values in by(results, *COLUMNS).items():
        x = float(places.index((on, judge)))
        for line, count in zip(lines, (kept, let_in), strict=True):
            line.setdefault(f"the {replaces}'s mean is its model", {})[x] = rate(values, count)
    for axes, line, name in zip(
        (upper, lower), lines, ("honest updates kept", "strikes let in"), strict=True
    ):
        pictures.rates(axes, line, None, joined=False)
        pictures.as_rate(axes, name)
    pictures.cells_below(lower, places)
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="votes on groups against votes on the round: what a poisoned update costs honest ones",
    title="One poisoned update of 100, in groups of ten",
    setup=setup_of(scales_of("fashion-mnist")),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 8.0),
    only=COLUMNS,
    counts=counts,
    poisoned=poisoned,
    note=(
        "All agents train in each round. One of them replaces the model in every third round after "
        "the warm-up: it boosts its update so that the mean of its group, or of the round, becomes "
        "its model. Kept: honest updates of these rounds that an accepted model is made of. FN of "
        "groups: groups with its update that were not left out, FP: other groups that were, in all "
        "rounds with a vote."
    ),
)
