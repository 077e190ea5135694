"""Attackers who ask the judge itself, and strike in every third round if it lets them."""

from __future__ import annotations

from fedjury.experiments.engine.case import Case
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.papers import judge_strikes
from fedjury.experiments.papers.judge_setup import JUDGES, JudgePlan, poisoned, scales_of, setup_of

ATTACKERS: judge_strikes.Attackers = {
    "all data": {"agents.attack": "adaptive"},
    "clean data": {"agents.attack": "adaptive", "backdoor.judged_clean": True},
    "careful": {"agents.attack": "adaptive", "agents.options": {"least": 0.01}},
    "evasive": {"agents.attack": "evasive"},
}
"""What the attacker asks the judge on; ten times more careful; and one that trains against it."""


def cases(plan: JudgePlan) -> list[Case]:
    """Make the cells; the attacker strikes in every third round with a vote."""
    first, scale = plan.scale.warm_up, plan.scale
    strikes = list(range(first + 3, first + scale.judged + 1, 3))
    return judge_strikes.cases(plan, ATTACKERS, strikes, JUDGES)


EXPERIMENT = Experiment(
    line="judges against an attacker who asks them first, in every third round",
    title="Attackers who ask the judge, a strike in every third round",
    setup=setup_of(scales_of("fashion-mnist", "mnist5k")),
    cases=cases,
    tables=judge_strikes.tables,
    draw=judge_strikes.draw,
    size=(11.0, 8.0),
    only=judge_strikes.COLUMNS,
    counts=judge_strikes.counts,
    poisoned=poisoned,
    note=judge_strikes.NOTE,
)
