"""Evidence over rounds: how soon fakes in groups are named, and whether honest agents ever are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate, by, rate
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers.baffle import defence
from fedjury.experiments.papers.group_votes import evil
from fedjury.experiments.papers.judge_setup import JudgePlan, scales_of, setup_of

COLUMNS = ("attack", "size")
FAKES = 0.05
"""Share of agents that are malicious."""

SIZES = (5, 10, 20)
"""Agents in a group."""

ROUNDS = {5: 24, 10: 36, 20: 60}
"""Agents in a group -> rounds with a vote, by the scale that is not for tests."""

CALM = 2
"""Rounds with a vote before the attack."""

JUDGES = {"mpaf": "robust", "backdoor": "robust", "benign": "robust", "benign (lof)": "lof"}
"""What malicious agents do -> the judge; benign runs also with one that often votes good groups
down."""

BENIGN = ("benign", "benign (lof)")


def cases(plan: JudgePlan) -> list[Case]:
    """Make the grid: what malicious agents do, and agents in a group."""
    return [
        case(plan, seed, attack, size)
        for seed in plan.seeds
        for attack in JUDGES
        for size in SIZES
        if size <= int(plan.common["agents.n"]) // 2
    ]


def case(plan: JudgePlan, seed: int, attack: str, size: int) -> Case:
    """Make one cell: all agents train in each round, and those malicious attack in each."""
    scale = plan.scale
    first = scale.warm_up + CALM + 1
    last = first + (ROUNDS[size] if scale.name != "tiny" else scale.always)
    changes: dict[str, Any] = {
        "run.rounds": last,
        "sampling.client_fraction": 1.0,
        "aggregation.server_lr": 1.0,
        "agents.malicious": 0.0 if attack in BENIGN else _share(plan),
        "backdoor.inject": list(range(first, last + 1)) if attack == "backdoor" else [],
        "groups.size": size,
        "groups.secret": True,
        "detection.detectors": ["group_testing"],
        "detection.quarantine": True,
    }
    if attack == "mpaf":
        changes |= {"agents.attack": "mpaf", "agents.scale": 1e6, "agents.start": first}
    if attack == "backdoor":
        changes["backdoor.replaces"] = "group"
    changes |= defence("clients", JUDGES[attack], on="groups")
    labels: Labels = {"attack": attack, "size": size, "seed": seed}
    [data] = plan.sets
    one = plan.of(data)
    cell = one.case(labels, changes, trained=False, shared=False)
    # The base is that of other experiments, of ten agents a round.
    return cell._replace(job=cell.job._replace(start=one.base(one.settings(seed, {}))))


def _share(plan: JudgePlan) -> float:
    """Return the share of malicious agents, of which there is one at least."""
    return max(FAKES, 1 / int(plan.common["agents.n"]))


def attacked(result: Result) -> int:
    """Return the first round of the attack, or that in which it would be."""
    return result.settings.validation.warm_up + CALM + 1


def named(result: Result) -> dict[str, int]:
    """Return who was flagged, and the round of the attack whose verdicts said so.

    Detectors are shown verdicts in the round after them.
    """
    first: dict[str, int] = {}
    for record in result.records:
        for name in record.detection.flagged if record.detection else ():
            first.setdefault(name, record.round - attacked(result))
    return first


def fakes_named(result: Result) -> Count:
    """Count the malicious agents, and those that were named."""
    return Count(len(evil(result) & set(named(result))), len(evil(result)))


def honest_named(result: Result) -> int:
    """Return how many honest agents were ever named."""
    return len(set(named(result)) - evil(result))


def soon(result: Result) -> list[int]:
    """Return after how many rounds of the attack each malicious agent was named, in order."""
    out = evil(result)
    return sorted(rounds for name, rounds in named(result).items() if name in out)


def all_named(result: Result) -> int | None:
    """Return after how many rounds all malicious agents were named; None if not all were."""
    return soon(result)[-1] if len(soon(result)) == len(evil(result)) > 0 else None


def verdicts(result: Result, *, poisoned: bool) -> Count:
    """Count groups that were voted on with, or without, an attacker, and those left out."""
    groups = list(_groups(result, poisoned=poisoned))
    return Count(sum(groups), len(groups))


def _groups(result: Result, *, poisoned: bool) -> Iterator[bool]:
    for record in result.records:
        out = evil(result) if record.round >= attacked(result) else frozenset[str]()
        for group in record.groups.groups.values() if record.groups else ():
            asked = group.poisoned + group.clean + group.silent > 0 or group.why
            if asked and poisoned is not out.isdisjoint(group.members):
                yield bool(group.why)


def counts(result: Result) -> Row:
    """Count what one run came to."""
    return {
        "named": fakes_named(result),
        "honest named": honest_named(result),
        "first named after": soon(result)[0] if soon(result) else None,
        "all named after": all_named(result),
        "spoiled groups voted down": verdicts(result, poisoned=True),
        "other groups voted down": verdicts(result, poisoned=False),
    }


def tables(results: list[Result]) -> list[Table]:
    """Return how soon fakes were named, what benign runs came to, and the target."""
    rows = [
        _row(dict(zip(COLUMNS, key, strict=True)), values)
        for key, values in by(results, *COLUMNS).items()
    ]
    benign = [r for r in results if r.labels["attack"] in BENIGN]
    wrong = [
        target("honest agents named, benign runs", _total(benign), most=0),
        target("honest agents named, all runs", _total(results), most=0),
    ]
    return [
        Table("", "Rounds of attack until malicious agents are named", rows),
        Table("targets", "Targets", wrong if benign else wrong[1:]),
    ]


def _total(results: list[Result]) -> Mean:
    return Mean((float(sum(map(honest_named, results))),), f"in {len(results)} runs")


def _row(labels: Row, values: list[Result]) -> Row:
    attacked = labels["attack"] not in BENIGN
    firsts = Mean(tuple(float(soon(r)[0]) for r in values if soon(r)), "")
    last = Mean(tuple(float(n) for r in values if (n := all_named(r)) is not None), "")
    return {
        **labels,
        "runs": len(values),
        "rounds": len(values[0].records) - int(values[0].settings.validation.warm_up),
        "first named after": firsts if attacked else None,
        "all named after": last if attacked else None,
        "named": rate(values, fakes_named) if attacked else None,
        "honest named": sum(map(honest_named, values)),
        "spoiled groups voted down": rate(values, lambda r: verdicts(r, poisoned=True))
        if attacked
        else None,
        "other groups voted down": rate(values, lambda r: verdicts(r, poisoned=False)),
    }


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the share of malicious agents that is named by round of the attack."""
    struck = [result for result in results if result.labels["attack"] not in BENIGN]
    attacks = by(struck, "attack")
    panels = figure.subplots(1, max(len(attacks), 1), squeeze=False, sharey=True)[0]
    for axes, ((attack,), values) in zip(panels, attacks.items(), strict=False):
        sizes = by(values, "size")
        for (size,), runs in sizes.items():
            shares: dict[float, Rate] = {
                float(t): rate(runs, lambda r, t=t: _by_round(r, t))  # type: ignore[misc]
                for t in range(len(runs[0].records) - attacked(runs[0]) + 1)
            }
            style = pictures.style([str(one) for (one,) in sizes], str(size)) | {"marker": ""}
            shown = [share.value or 0.0 for share in shares.values()]
            axes.plot([*shares], shown, label=f"groups of {size}", **style)
        pictures.as_rate(axes, "malicious agents named")
        axes.set(xlabel="rounds of the attack", title=str(attack))
    pictures.legend(figure)


def _by_round(result: Result, rounds: int) -> Count:
    """Count the malicious agents, and those named after so many rounds of the attack."""
    return Count(sum(at <= rounds for at in soon(result)), len(evil(result)))


EXPERIMENT = Experiment(
    line="evidence over rounds: how soon five fakes of 100 are named by votes on their groups",
    title="Malicious agents named by the votes on their groups",
    setup=setup_of(scales_of("fashion-mnist", warm_up=10, look_backs=(10,))),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 5.0),
    only=COLUMNS,
    counts=counts,
    legend=(
        "Rounds of attack until the first, and until all malicious agents are named (only of runs "
        "in which all are); in parentheses the lowest and the highest repeat. Spoiled groups: "
        "those with a malicious agent, from the attack on."
    ),
    note=(
        "Five of 100 agents are malicious and attack in each round: MPAF's fakes, or agents that "
        "boost a backdoor so that the mean of their group is their model. The judge is robust, "
        "in benign runs also lof, which votes many good groups down; groups are drawn by a secret; "
        "agents that are named in two rounds are in quarantine. "
        "The attack begins with the third round that has a vote."
    ),
)
