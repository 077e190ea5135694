"""The tables of the experiment mpaf, and what was to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.metrics import Mean
from fedjury.experiments.engine.tables import Row, Table, target
from fedjury.experiments.papers import published
from fedjury.experiments.papers.mpaf_point import (
    ATTACKS,
    CENTRAL,
    COMPARED,
    NONE,
    RULES,
    Point,
    Seen,
    point,
    trimmed,
)

GUESSING = 0.15
"""A model of ten classes that is no more often right than this is ruined."""

NEAR = 0.02
"""How far the best defence may stay behind averaging without an attack."""

ALIKE = 0.01
"""How far accuracies may lie apart where lambda should not matter."""

SATURATED = 1e3
"""The lambda from which median and trimmed mean only see signs."""


def tables(results: list[Result]) -> list[Table]:
    """Return all tables; the first is accuracy by the fraction of fakes."""
    seen = Seen(results)
    case = f"{first(seen)}, fakes {CENTRAL} % of the genuine"
    return [
        Table("", "Accuracy by fakes, in percent of the genuine agents", fractions(seen)),
        Table("beta", f"By beta, the share of agents called ({case})", betas(seen)),
        Table("lambda", f"By lambda, MPAF ({case})", scales(seen)),
        Table("clipping", f"By M, norm clipping before the rule ({case})", bounds(seen)),
        Table(
            "defences",
            f"Defences against MPAF; lost: behind averaging without attack ({case})",
            defences(seen),
        ),
        Table("published", f"Published figures, and ours on {first(seen)}", claims(seen)),
        Table("targets", "Targets", targets(seen)),
    ]


def first(seen: Seen) -> str:
    """Return the data set of all tables but the first."""
    return str(seen.values("data")[0])


def numbers(seen: Seen, name: str) -> list[float]:
    """Return what a label was set to, ascending."""
    return sorted(float(value) for value in seen.values(name))


def percents(seen: Seen) -> list[int]:
    """Return the fractions of fakes, ascending."""
    return [int(percent) for percent in numbers(seen, "percent")]


def fractions(seen: Seen) -> list[Row]:
    """Return a row for each data set, rule and attack."""
    return [
        {"data": str(data), "rule": rule, "attack": attack}
        | {
            f"{percent} %": seen.accuracy(seen.of(str(data), rule, attack, percent))
            for percent in percents(seen)
        }
        for data in seen.values("data")
        for rule in RULES
        for attack in ATTACKS
    ]


def sampled(seen: Seen, rule: str, attack: str, beta: float, *, all_fakes: bool) -> Point:
    """Return the point of a rule that trims by the fakes expected in a round, or by the most."""
    f = trimmed(seen.genuine, beta, attack, all_fakes=all_fakes)
    return point(first(seen), rule, attack, CENTRAL, f=f, beta=beta)


WAYS = (
    ("mean", "mean", False),
    ("median", "median", False),
    ("trimmed_mean, k expected", "trimmed_mean", False),
    ("trimmed_mean, k all", "trimmed_mean", True),
)
"""(name, rule, whether it trims as many as there are fakes at all), where agents are sampled."""


def betas(seen: Seen) -> list[Row]:
    """Return a row for each rule and attack."""
    return [
        {"rule": name, "attack": attack}
        | {
            f"beta {beta:g}": seen.accuracy(sampled(seen, rule, attack, beta, all_fakes=every))
            for beta in numbers(seen, "beta")
        }
        for name, rule, every in WAYS
        for attack in (NONE, "mpaf")
    ]


def central(
    seen: Seen, defence: str, attack: str, *, scale: float = 1e6, clip: float = 0.0
) -> Point:
    """Return a point with the usual number of fakes, and a rule that reckons with them."""
    f = seen.fake_agents(CENTRAL)
    return point(first(seen), defence, attack, CENTRAL, f=f, scale=scale, clip=clip)


def scales(seen: Seen) -> list[Row]:
    """Return a row for each rule."""
    return [
        {"rule": rule}
        | {
            f"lambda {scale:.0e}": seen.accuracy(central(seen, rule, "mpaf", scale=scale))
            for scale in numbers(seen, "scale")
        }
        for rule in RULES
    ]


def bounds(seen: Seen) -> list[Row]:
    """Return a row for each rule and attack; no clipping comes last."""
    off, *clips = numbers(seen, "clip")
    return [
        {"rule": rule, "attack": attack}
        | {
            f"M {clip:g}" if clip else "off": seen.accuracy(central(seen, rule, attack, clip=clip))
            for clip in (*clips, off)
        }
        for rule in RULES
        for attack in (NONE, "mpaf")
    ]


def held(seen: Seen) -> list[tuple[str, float]]:
    """Return the defences that were tried, as name and M, the best under MPAF first."""
    pairs = [pair for pair in COMPARED if lost(seen, pair, "mpaf").values]
    return sorted(pairs, key=lambda pair: lost(seen, pair, "mpaf").value or 0.0)


def lost(seen: Seen, defence: tuple[str, float], attack: str) -> Mean:
    """Return how far a defence stays behind plain averaging without attack."""
    name, clip = defence
    return seen.drop(central(seen, name, attack, clip=clip), central(seen, "mean", NONE))


def defences(seen: Seen) -> list[Row]:
    """Return a row for each defence, the best under MPAF first."""
    return [
        {"defence": name, "clipping M": clip or None}
        | {
            f"accuracy, {attack}": seen.accuracy(central(seen, name, attack, clip=clip))
            for attack in (NONE, "mpaf")
        }
        | {
            f"lost, {attack} (points)": lost(seen, (name, clip), attack)
            for attack in (NONE, "mpaf")
        }
        for name, clip in held(seen)
    ]


def claims(seen: Seen) -> list[Row]:
    """Return the published figures with the nearest of ours, an attack a row."""
    rows: list[Row] = []
    for claim in published.CLAIMS:
        for attack in claim.attacks or ("",):
            at = (first(seen), claim.rule, attack, claim.percent)
            ours: Mean | None = None
            if claim.drop:
                lower = seen.lost(*at)
                ours = Mean(tuple(-x for x in lower.values), lower.unit)
            elif claim.rule:
                ours = seen.accuracy(seen.of(*at))
            rows.append(
                {
                    "published": claim.what,
                    "figure": claim.said,
                    "source": claim.source,
                    "ours: attack": attack,
                    "ours": ours,
                }
            )
    return rows


def targets(seen: Seen) -> list[Row]:
    """Set what was to be reached beside what was seen."""
    rows: list[Row] = []
    fewest, *_, most = (percent for percent in percents(seen) if percent)
    for data in map(str, seen.values("data")):
        rows += [
            target(
                f"{data}: mean, {fewest} % fakes, {attack}",
                seen.accuracy(seen.of(data, "mean", attack, fewest)),
                most=GUESSING,
            )
            for attack in ATTACKS
        ]
        for rule in RULES[1:]:
            rows += [
                target(
                    f"{data}: {rule}, {percent} % fakes, MPAF's damage less {other}'s",
                    seen.drop(
                        seen.of(data, rule, "mpaf", percent), seen.of(data, rule, other, percent)
                    ),
                    least=0.0,
                )
                for percent in sorted({CENTRAL, most})
                for other in ATTACKS[:2]
            ]
            rows.append(growing(seen, data, rule))
    return [*rows, *(level(seen, rule) for rule in RULES[1:]), best(seen)]


def growing(seen: Seen, data: str, rule: str) -> Row:
    """Say how much MPAF's damage grows from one fraction to the next, at the least."""
    damage = [seen.lost(data, rule, "mpaf", percent).value for percent in percents(seen)]
    known = [value for value in damage if value is not None]
    least = min((after - before for before, after in pairwise(known)), default=None)
    what = f"{data}: {rule}, MPAF's damage grows with each fraction, by at least"
    return target(what, _points([] if least is None else [least]), least=0.0)


def level(seen: Seen, rule: str) -> Row:
    """Say how far accuracies with large lambdas lie apart."""
    values = [
        seen.accuracy(central(seen, rule, "mpaf", scale=scale)).value
        for scale in numbers(seen, "scale")
        if scale >= SATURATED
    ]
    known = [value for value in values if value is not None]
    apart = [max(known) - min(known)] if known else []
    what = f"{first(seen)}: {rule}, MPAF, accuracies for lambda from {SATURATED:g} on lie apart"
    return target(what, _points(apart), most=ALIKE)


def best(seen: Seen) -> Row:
    """Say how far the best defence is from averaging without attack."""
    pairs = held(seen)
    if not pairs:
        return target("best defence", Mean((), "points"), most=NEAR)
    name, clip = pairs[0]
    called = f"{name}, M {clip:g}" if clip else name
    what = f"{first(seen)}: best defence ({called}) under MPAF behind averaging without attack"
    return target(what, lost(seen, (name, clip), "mpaf"), most=NEAR)


def _points(values: Sequence[float]) -> Mean:
    return Mean(tuple(values), "points")
