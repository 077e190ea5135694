"""Attackers who ask the judge itself, and strike in every round if it lets them."""

from __future__ import annotations

from fedjury.experiments.engine.case import Case
from fedjury.experiments.papers import judge_strikes
from fedjury.experiments.papers.judge_adaptive import ATTACKERS
from fedjury.experiments.papers.judge_setup import JUDGES, JudgePlan


def cases(plan: JudgePlan) -> list[Case]:
    """Make the cells; the attacker strikes in every round with a vote, and asks on all its data."""
    first, scale = plan.scale.warm_up, plan.scale
    strikes = list(range(first + 1, first + scale.always + 1))
    asking = {"all data": ATTACKERS["all data"]}
    judges = {name: settings for name, settings in JUDGES.items() if name != "lof"}
    return judge_strikes.cases(plan, asking, strikes, judges)


EXPERIMENT = judge_strikes.experiment(
    "judges against an attacker who asks them first, in every round for 140 rounds",
    "Attackers who ask the judge, a strike in every round",
    cases,
)
