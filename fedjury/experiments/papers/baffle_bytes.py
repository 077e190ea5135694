"""What validators receive: all models each time, compressed, and only those they lack."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from fedjury.experiments.engine import pictures
from fedjury.experiments.engine.case import Case, Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Mean, Rate, by, rate, voted
from fedjury.experiments.engine.tables import Row, Table
from fedjury.experiments.papers import published
from fedjury.experiments.papers.baffle import BAFFLE, STEPS, BafflePlan, defence

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"wire.history": "float32", "agents.remember": False},
    "compressed": {"wire.history": "int7+zstd", "agents.remember": False},
    "incremental": {"wire.history": "int7+zstd", "agents.remember": True},
}
"""How past models come to a validator."""

Plain = dict[tuple[str | int | float, ...], Result]
"""(judge, seed) -> the run whose models travel as they are."""

WINDOW = 20
"""Rounds that the paper counts bytes over."""


def cases(plan: BafflePlan) -> list[Case]:
    """Make a cell for each way; all run from round 1, since who was there early lacks less."""
    common = {"data.server": plan.scale.splits[0], "aggregation.server_lr": STEPS["eta/N"]}
    return [
        plan.case(
            {"judge": judge, "way": way, "seed": seed},
            common | changes | defence("clients", judge),
            shared=False,
        )
        for seed in plan.seeds
        for judge in ("lof", "calibrated")
        for way, changes in WAYS.items()
    ]


def tables(results: list[Result]) -> list[Table]:
    """Return bytes, and what compression changed in the votes."""
    plain: Plain = {
        (r.labels["judge"], r.labels["seed"]): r for r in results if r.labels["way"] == "plain"
    }
    whole = min(received(r) for r in plain.values()) / models(next(iter(plain.values())))
    rows: list[Row] = []
    for (judge, way), values in by(results, "judge", "way").items():
        paper = published.BYTES[str(way)]
        votes = tuple(received(r) for r in values)
        asked = tuple(calls(r) for r in values)
        twenty = tuple(a * b for a, b in zip(votes, asked, strict=True))
        other = differing(values, plain)
        rows.append(
            {
                "judge": judge,
                "way": way,
                "kB a vote": Mean(tuple(b / 1e3 for b in votes), ""),
                "models' worth a vote": Mean(tuple(b / whole for b in votes), ""),
                "paper": paper.vote,
                f"votes in {WINDOW} rounds": Mean(asked, ""),
                f"kB in {WINDOW} rounds": Mean(tuple(b / 1e3 for b in twenty), ""),
                f"models' worth in {WINDOW} rounds": Mean(tuple(b / whole for b in twenty), ""),
                "paper, 20 rounds": paper.twenty,
                "votes unlike plain": other[0],
                "decisions unlike plain": other[1],
            }
        )
    return [Table("", "What a validator receives: candidate and past models", rows)]


def votes(result: Result) -> list[int]:
    """Return the bytes received for each vote of an agent."""
    return [
        vote.size
        for record in voted(result.records)
        for name, vote in record.votes.voters.items()
        if name[0] != ":"
    ]


def received(result: Result) -> float:
    """Return the mean bytes that an agent received for a vote."""
    every = votes(result)
    return sum(every) / len(every)


def calls(result: Result) -> float:
    """Return how often an agent votes in 20 rounds, on average."""
    return WINDOW * len(votes(result)) / len(voted(result.records)) / result.settings.agents.n


def models(result: Result) -> int:
    """Return how many models come for a vote if all do: l + 1, and the candidate."""
    return result.settings.validation.look_back + 2


def differing(results: list[Result], plain: Plain) -> tuple[Rate, Rate]:
    """Return the shares of votes and of decisions that differ from those on models as they are."""

    def counts(result: Result) -> tuple[Count, Count]:
        return unlike(result, plain[result.labels["judge"], result.labels["seed"]])

    return rate(results, lambda r: counts(r)[0]), rate(results, lambda r: counts(r)[1])


def unlike(result: Result, plain: Result) -> tuple[Count, Count]:
    """Count votes and decisions that differ from those on the models as they are.

    From the first decision that differs on, the two runs judge other models: there it ends.
    """
    message = differ = rounds = decided = 0
    for one, other in zip(voted(result.records), voted(plain.records), strict=False):
        rounds += 1
        mine, theirs = one.votes.voters, other.votes.voters
        for name in mine.keys() & theirs.keys():
            message += 1
            differ += mine[name].poisoned != theirs[name].poisoned
        if one.accepted != other.accepted:
            decided = 1
            break
    return Count(differ, message), Count(decided, rounds)


def draw(figure: Figure, results: list[Result]) -> None:
    """Draw the mean bytes of a vote by round, and over all rounds."""
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    groups = by(results, "way")
    names = [str(way) for (way,) in groups]
    for (way,), several in groups.items():
        rounds: dict[int, list[int]] = {}
        for record in (record for r in several for record in voted(r.records)):
            rounds.setdefault(record.round, []).extend(
                vote.size for name, vote in record.votes.voters.items() if name[0] != ":"
            )
        means = [sum(values) / len(values) / 1e3 for values in rounds.values()]
        left.plot(
            list(rounds),
            means,
            label=str(way),
            markersize=4,
            lw=1.2,
            **pictures.style(names, str(way)),
        )
    left.set(xlabel="round", ylabel="received for a vote (kB)", yscale="log")
    left.grid(alpha=0.25)
    mean = [sum(map(received, several)) / len(several) / 1e3 for several in groups.values()]
    bars = right.bar(
        names, mean, color="#dddddd", edgecolor="black", hatch=list(pictures.HATCHES[: len(names)])
    )
    right.bar_label(bars, fmt="%.0f kB")
    right.set(ylabel="mean over all votes (kB)", yscale="log")
    for axes in (left, right):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    pictures.legend(figure)


EXPERIMENT = Experiment(
    line="overhead: bytes a validator receives, plain, compressed and incremental",
    title="BAFFLE's overhead, look-back 20, step eta/N",
    setup=BAFFLE,
    cases=cases,
    tables=tables,
    draw=draw,
    size=(11.0, 4.6),
    note=(
        "plain: all past models as float32 for each vote; compressed: the same in int7 with zstd; "
        "incremental: only the models not seen yet. All agents hear each accepted model when it "
        "is published, for their training, so little is left to fetch; that is not counted here. "
        "unlike plain: up to the first decision that differs. A model's worth is the size of one "
        "as float32; the paper counts 20 models of 10 MB for a vote (200 MB), 10 times less when "
        "compressed, and at most 40 MB in 20 rounds."
    ),
)
