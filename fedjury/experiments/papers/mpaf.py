"""MPAF (Cao, Gong: CVPR workshops 2022): what fakes do to federated learning, and what holds.

Accuracy by the fraction of fakes, by the share of agents called (beta), by the attack's scaling
(lambda) and by the bound of norm clipping (M); then one defence after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedjury.experiments.engine.case import Case
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.papers import mpaf_picture, mpaf_tables, published
from fedjury.experiments.papers.mpaf_point import (
    ATTACKS,
    CENTRAL,
    COMPARED,
    NONE,
    RULES,
    Point,
    point,
    trimmed,
)
from fedjury.experiments.papers.mpaf_setup import FAKES, MpafAgents, MpafPlan, defended


def cases(plan: MpafPlan) -> list[Case]:
    """Make the cells of all tables; what two of them share is run once."""
    points = dict.fromkeys(
        each
        for grid in (fractions, betas, scales, bounds, compared, claimed)
        for each in grid(plan)
    )
    return [case(plan, each, seed) for seed in plan.seeds for each in points]


def case(plan: MpafPlan, at: Point, seed: int) -> Case:
    """Make one cell."""
    agents = MpafAgents(plan.scale.genuine, plan.scale.fake_agents(at.percent), at.beta)
    attack = {} if at.attack == NONE else {"agents.attack": at.attack, "agents.scale": at.scale}
    changes = defended(at.defence, at.f) | attack | {"aggregation.clip": at.clip}
    return plan.case({**at._asdict(), "seed": seed}, at.data, agents, changes)


def fractions(plan: MpafPlan) -> Iterator[Point]:
    """Yield attack x rule x fraction on all data sets; k is the number of fakes, as published."""
    for data in plan.sets:
        for rule in RULES:
            for percent in plan.scale.percent:
                for attack in ATTACKS:
                    yield point(data, rule, attack, percent, f=plan.scale.fake_agents(percent))


def betas(plan: MpafPlan) -> Iterator[Point]:
    """Yield the shares of agents called; k is the number of fakes expected, and all."""
    for beta in plan.scale.betas:
        for attack in (NONE, "mpaf"):
            for rule in RULES:
                for every in (False, True):
                    f = trimmed(plan.scale.genuine, beta, attack, all_fakes=every)
                    yield point(first(plan), rule, attack, CENTRAL, f=f, beta=beta)


def scales(plan: MpafPlan) -> Iterator[Point]:
    """Yield the lambdas of MPAF."""
    for scale in plan.scale.scales:
        for rule in RULES:
            f = plan.scale.fake_agents(CENTRAL)
            yield point(first(plan), rule, "mpaf", CENTRAL, f=f, scale=scale)


def bounds(plan: MpafPlan) -> Iterator[Point]:
    """Yield the clipping bounds, and none, with MPAF and without attack."""
    return _held([(rule, clip) for clip in (*plan.scale.bounds, 0.0) for rule in RULES], plan)


def compared(plan: MpafPlan) -> Iterator[Point]:
    """Yield the defences."""
    return _held(COMPARED, plan)


def _held(defences: Iterable[tuple[str, float]], plan: MpafPlan) -> Iterator[Point]:
    """Yield defences with and without attack; without, they reckon with as many fakes."""
    for defence, clip in defences:
        for attack in (NONE, "mpaf"):
            f = plan.scale.fake_agents(CENTRAL)
            yield point(first(plan), defence, attack, CENTRAL, f=f, clip=clip)


def claimed(plan: MpafPlan) -> Iterator[Point]:
    """Yield what published figures are set beside."""
    for claim in published.CLAIMS:
        if claim.percent in plan.scale.percent:
            for attack in claim.attacks:
                f = plan.scale.fake_agents(claim.percent)
                yield point(first(plan), claim.rule, attack, claim.percent, f=f)


def first(plan: MpafPlan) -> str:
    """Return the data set of all tables but that of fractions."""
    return next(iter(plan.sets))


EXPERIMENT = Experiment(
    line="accuracy by fraction of fakes, sampling, lambda and clipping, for three attacks",
    title="MPAF",
    setup=FAKES,
    cases=cases,
    tables=mpaf_tables.tables,
    draw=mpaf_picture.draw,
    size=(12.0, 10.0),
    note=(
        "none: no attack. The trimmed mean drops k at each end: k is the number of fakes, so that "
        "without fakes it is the mean; where agents are sampled, the number expected, or as many "
        "as there are. The rule of a defence that has to know reckons with the fakes there are, "
        "and without attack with as many. All but the first table: the first data set, fakes "
        "10 % of the genuine, beta 1, lambda 1e6, unless they say otherwise. Figures are "
        f"accuracies. {published.CLIPPING}."
    ),
)
