"""What groups leak over many rounds, and what it costs to let them stay together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjury.config.settings import SettingsError, load
from fedjury.experiments.engine import pictures, setup
from fedjury.experiments.engine.case import Case, Job, Labels, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count, total
from fedjury.experiments.engine.metrics import Mean, by, lately, rate
from fedjury.experiments.engine.setup import Plan, Scale, Setup
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers.baffle import defence
from fedjury.experiments.papers.group_votes import evil
from fedjury.experiments.papers.leak_watch import LeakWatch
from fedjury.learning.datasets.dataset import Dataset
from fedjury.protocol.record import RoundRecord

COLUMNS = ("part", "split", "groups")

SPLITS: Mapping[str, dict[str, Any]] = {
    "iid": {"agents.split": "iid"},
    "Dirichlet .9": {"agents.split": "dirichlet", "agents.alpha": 0.9},
    "few classes": {"agents.split": "dirichlet", "agents.alpha": 0.1},
}
"""How unlike the agents' data are."""

SIZE = 10
"""Agents in a group, where groups are voted on."""

FAKES = 0.05
"""Share of agents that attack there."""

CALM = 2
"""Rounds with a vote before they do."""

SHOWN = (5, 10, 20, 50)
"""After how many rounds tables tell of changing groups, besides the last."""


@dataclass(frozen=True)
class LeakScale(Scale):
    """The sizes of the experiment."""

    rounds: int = 100
    warm_up: int = 10
    """Rounds before groups are voted on."""
    attacked: int = 15
    """Rounds of attack."""


@dataclass(frozen=True)
class LeakPlan(Plan):
    """What it is run with: one data set."""

    scale: LeakScale


SCALES = {
    "small": LeakScale("small", ("mnist5k",), {"agents.n": 100, "agents.samples": 60}),
    "paper": LeakScale(
        "paper", ("fashion-mnist",), {"agents.n": 1000, "agents.samples": 55}, rounds=1000
    ),
    "tiny": LeakScale(
        "tiny",
        ("digits",),
        {"agents.n": 12, "agents.samples": 40, "data.test": 300},
        rounds=5,
        warm_up=5,
        attacked=2,
    ),
}

MODELS: Mapping[str, Mapping[str, Any]] = {"mlp": {"training.learning_rate": 0.1}}
"""Networks, with their local SGD; the biases of its outputs come last in an update."""

COMMON: dict[str, Any] = {
    "training.batch_size": 20,
    "agents.malicious": 0.0,
    # No deadline may decide on a slow machine.
    "collect.seconds": 3600.0,
    "validation.seconds": 3600.0,
    "groups.seconds": 3600.0,
}


def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> LeakPlan:
    """Plan the experiment on the one data set.

    Raises
    ------
    SettingsError
        If there are several.
    """
    if len(sets) > 1:
        raise SettingsError(f"--data: this experiment takes one data set, not {len(sets)}")
    [(name, data)] = sets.items()
    common = setup.common(SCALES[scale], COMMON, MODELS, model) | {"data.name": name}
    return LeakPlan(SCALES[scale], common, {name: len(data.y_train)}, seeds)


def cases(plan: LeakPlan) -> list[Case]:
    """Make the grid: a run that is watched for each split, and runs with votes for both groups."""
    return [
        made
        for seed in plan.seeds
        for split in SPLITS
        for made in (
            _leak(plan, seed, split),
            *(_votes(plan, seed, split, groups) for groups in ("changing", "fixed")),
        )
        if made.labels["part"] == "leak" or split != "iid"
    ]


def _leak(plan: LeakPlan, seed: int, split: str) -> Case:
    """Make a run whose single updates are seen, in which the attack is played for all groups."""
    changes = {"run.rounds": plan.scale.rounds}
    made = _case(plan, seed, {"part": "leak", "split": split, "groups": "both"}, changes)
    return made._replace(job=made.job._replace(watch=LeakWatch))


def _votes(plan: LeakPlan, seed: int, split: str, groups: str) -> Case:
    """Make a run under secure aggregation in which fakes' groups are voted out."""
    scale = plan.scale
    first = scale.warm_up + CALM + 1
    agents = int(plan.common["agents.n"])
    changes = {
        "run.rounds": first + scale.attacked - 1,
        "agents.malicious": max(FAKES, 1 / agents),
        "agents.attack": "mpaf",
        "agents.scale": 1e6,
        "agents.start": first,
        "groups.size": min(SIZE, agents // 3),
        "groups.secure": True,
        "groups.by_seed": True,
        "groups.colluding": 0.2,
        "groups.fixed": groups == "fixed",
        "validation.warm_up": scale.warm_up,
        "validation.look_back": scale.warm_up - 1,
        "validation.minimum_history": scale.warm_up - 1,
    } | defence("clients", "robust", on="groups")
    return _case(plan, seed, {"part": "votes", "split": split, "groups": groups}, changes)


def _case(plan: LeakPlan, seed: int, labels: Labels, changes: Mapping[str, Any]) -> Case:
    labels = {**labels, "seed": seed}
    given = {**plan.common, **SPLITS[str(labels["split"])], **changes, "run.seed": seed}
    title = " ".join(f"{value}" for value in labels.values())
    return Case(labels, Job(title, load(overrides=given)))


# ---------------------------------------------------------------- what the attack comes to


def seen(result: Result) -> Iterator[tuple[tuple[int, str, int], Mapping[str, float]]]:
    """Go through what a watched run has measured: (size, groups, rounds), figures."""
    for row in result.found.get("rows", ()):
        yield (row["size"], row["groups"], row["rounds"]), row


def _leaks(results: list[Result]) -> list[Row]:
    """Return a row for each split, size and kind of groups, and number of rounds."""
    rows: list[Row] = []
    for (split,), values in by(results, "split").items():
        found: dict[tuple[int, str, int], list[Mapping[str, float]]] = {}
        for result in values:
            for key, row in seen(result):
                found.setdefault(key, []).append(row)
        last = max((rounds for _, _, rounds in found), default=0)
        for (size, groups, rounds), some in sorted(found.items()):
            if rounds == last or (groups == "changing" and rounds in SHOWN):
                labels: Row = {"split": split, "size": size, "groups": groups, "rounds": rounds}
                rows.append({**labels, **_figures(some)})
    return rows


def _figures(rows: list[Mapping[str, float]]) -> Row:
    names = ("cosine", "cosine with the last")
    figures: Row = {name: Mean(tuple(row[name] for row in rows), "") for name in names}
    shares = ("told apart", "label read")
    return {**figures, **{name: Mean(tuple(row[name] for row in rows)) for name in shares}}


# ---------------------------------------------------------------- what it costs


def attacked(result: Result) -> list[RoundRecord]:
    """Return the records of the rounds of attack."""
    first = result.settings.agents.start
    return [record for record in result.records if record.round >= first]


def left_in(record: RoundRecord) -> frozenset[str]:
    """Return the agents whose groups were aggregated."""
    groups = record.groups.groups.values() if record.groups else ()
    return frozenset(name for group in groups if not group.why for name in group.members)


def kept(result: Result) -> Count:
    """Count the updates of honest agents in the rounds of attack, and those that counted."""
    honest = {*_names(result)} - evil(result)
    rounds = attacked(result)
    return total(Count(len(honest & left_in(record)), len(honest)) for record in rounds)


def never(result: Result) -> Count:
    """Count the honest agents, and those of whom no update counted in the rounds of attack."""
    honest = {*_names(result)} - evil(result)
    once = frozenset[str]().union(*map(left_in, attacked(result)))
    return Count(len(honest - once), len(honest))


def spoiled(result: Result) -> Count:
    """Count the groups with an attacker, and those that were left out."""
    out = evil(result)
    groups = [
        group
        for record in attacked(result)
        for group in (record.groups.groups.values() if record.groups else ())
        if not out.isdisjoint(group.members)
    ]
    return Count(sum(bool(group.why) for group in groups), len(groups))


def _names(result: Result) -> Iterator[str]:
    """Go through the agents: in the first round all are in some group."""
    first = result.records[0].groups
    for group in first.groups.values() if first else ():
        yield from group.members


def tables(results: list[Result]) -> list[Table]:
    """Return what was worked out of single agents, and what staying together costs."""
    leaks = [result for result in results if result.labels["part"] == "leak"]
    votes = [result for result in results if result.labels["part"] == "votes"]
    found = Table("", "What an aggregator works out of single agents", _leaks(leaks))
    price = [
        {
            "split": split,
            "groups": groups,
            "honest updates kept": rate(values, kept),
            "honest agents never kept": rate(values, never),
            "spoiled groups left out": rate(values, spoiled),
            "accuracy before": Mean(tuple(_before(r) for r in values)),
            "accuracy": Mean(tuple(lately(r, "accuracy", 3) for r in values)),
        }
        for (split, groups), values in by(votes, "split", "groups").items()
    ]
    return [found, Table("votes", "What it costs where fakes' groups are voted out", price)]


def _before(result: Result) -> float:
    """Return the accuracy before the attack."""
    return result.records[result.settings.agents.start - 2].model.accuracy or 0.0


def counts(result: Result) -> Row:
    """Count what one run came to."""
    if result.labels["part"] == "leak":
        return {"most frequent label": result.found.get("most frequent label")}
    return {
        "honest updates kept": kept(result),
        "honest agents never kept": never(result),
        "spoiled groups left out": spoiled(result),
    }


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw cosine above how many are told apart, by rounds, a panel for each split."""
    leaks = [result for result in results if result.labels["part"] == "leak"]
    splits = by(leaks, "split")
    panels = figure.subplots(2, max(len(splits), 1), sharex=True, sharey=True, squeeze=False)
    shown = (("cosine", "cosine with the agent's own update"), ("told apart", "agents told apart"))
    for row, (name, text) in enumerate(shown):
        for axes, ((split,), values) in zip(panels[row], splits.items(), strict=False):
            _lines(axes, values, name)
            axes.set(ylim=(0, 1.04), xscale="log", title="" if row else str(split))
            axes.set_xlabel("rounds" if row else "")
            axes.set_xticks(sorted({key[2] for result in values for key, _ in seen(result)}))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.grid(alpha=0.25)
        panels[row][0].set_ylabel(text)
    pictures.legend(figure)


def _lines(axes: Axes, results: list[Result], name: str) -> None:
    """Draw a line for each size of changing groups, dotted beside it where they are fixed."""
    points: dict[tuple[int, str], dict[int, list[float]]] = {}
    for result in results:
        for (size, groups, rounds), row in seen(result):
            points.setdefault((size, groups), {}).setdefault(rounds, []).append(row[name])
    sizes = sorted({str(size) for size, _ in points}, key=int)
    for (size, groups), line in sorted(points.items()):
        if groups == "one round":
            continue
        style = pictures.style(sizes, str(size))
        if groups == "fixed":
            style = style | {"linestyle": ":", "marker": "", "lw": 1}
        label = f"groups of {size}" + (", fixed" if groups == "fixed" else "")
        means = [sum(values) / len(values) for values in line.values()]
        axes.plot([*line], means, label=label, **style)


EXPERIMENT = Experiment(
    line="what sums of many rounds tell of single agents, and groups that stay together",
    title="What an aggregator works out of single agents",
    setup=Setup(
        SCALES,
        MODELS,
        plan,
        lambda plan: (
            f"{plan.common['agents.n']} agents with {plan.common['agents.samples']} samples each, "
            f"all train in each round; {plan.scale.rounds} rounds"
        ),
        "Cosine: of what was worked out of an agent with what it has sent, both less the mean of "
        "all agents, over the rounds so far, or in the last of them. Told apart: agents to whose "
        "own update what was worked out of them is nearer than to any other's; guessing gets one "
        "in n. Label read: agents of whom the most frequent label was read off the biases of the "
        "last layer. One round: what the mean of its group in that round tells of an agent. In "
        "parentheses the lowest and the highest repeat.",
    ),
    cases=cases,
    tables=tables,
    draw=draw,
    size=(12.0, 7.0),
    only=COLUMNS,
    counts=counts,
    poisoned=lambda _: set(),
    note=(
        "The attack is least squares over the means of all groups so far (damped by 3 %), each "
        "round scaled to one length. It is played for all sizes beside one run whose updates are "
        "sent in the clear; groups of equal size make the same model whatever their size, and "
        "whether they change. Votes: under secure aggregation, groups of ten, ten validators of "
        "whom five leave a group out; five of 100 agents are fakes that send in each round of the "
        "last fifteen what spoils their group."
    ),
)
