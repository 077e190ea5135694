"""Attackers who ask the judge itself, and strike in every third round if it lets them."""

from __future__ import annotations

from fedjury.experiments.engine.case import Case
from fedjury.experiments.papers import judge_strikes
from fedjury.experiments.papers.judge_setup import JUDGES, JudgePlan

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


EXPERIMENT = judge_strikes.experiment(
    "judges against an attacker who asks them first, in every third round",
    "Attackers who ask the judge, a strike in every third round",
    cases,
)
