"""Judges at work: sizes, common settings and runs of the experiments judge-*.

They stand on BAFFLE's set-up (``baffle``): 100 agents of whom ten are selected, a base of 150
honest rounds, then ten validators of whom five reject. The server keeps no data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fedjury.experiments.engine import setup
from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.intervals import Count
from fedjury.experiments.engine.metrics import Rate, errors, flagged_wrongly, judged, rate
from fedjury.experiments.engine.setup import Plan, Setup
from fedjury.experiments.papers.baffle import (
    COMMON,
    PAPER,
    SLOWER,
    SMALL,
    SMALL_MODELS,
    TINY,
    BafflePlan,
    BaffleScale,
)
from fedjury.experiments.papers.baffle_adaptive import submitted
from fedjury.learning.datasets.dataset import Dataset

JUDGES: Mapping[str, dict[str, Any]] = {
    "lof": {"judge": "lof"},
    "calibrated": {"judge": "calibrated"},
    "robust": {"judge": "robust"},
    "pooled": {"judge": "robust", "decide": "pooled"},
}
"""Judges as tables call them -> what is set of the section validation."""

OTHERS = ("lof", "calibrated")
"""Judges that are shown for comparison, without targets."""

SETTING = 0.02
"""Share of good candidates that one validator may call poisoned: the judges' default."""


@dataclass(frozen=True)
class JudgeScale(BaffleScale):
    """The sizes of the experiments of judges."""

    judged: int = 45
    """Rounds with a vote, where the attacker strikes in every third."""
    always: int = 140
    """Rounds with a vote, where it strikes in each."""
    benign: int = 100
    """Rounds with a vote, where nobody strikes."""
    held: tuple[int, ...] = (30, 150, 600)
    """Samples of each agent in benign runs, as far as the data last."""


@dataclass(frozen=True)
class JudgePlan(Plan):
    """What an experiment of judges is run with: any number of data sets."""

    scale: JudgeScale
    own: Mapping[str, Mapping[str, Any]]
    """Data set -> settings of its cells."""

    def of(self, data: str) -> BafflePlan:
        """Return the plan on one data set."""
        common = dict(self.common) | {"data.name": data} | dict(self.own[data])
        return BafflePlan(self.scale, common, {data: self.sets[data]}, self.seeds)


def scales_of(*data: str, **changes: Any) -> dict[str, JudgeScale]:
    """Return the scales of an experiment that is run on these data sets, at the small one."""
    return {
        "small": _judging(SMALL, data=data, **changes),
        "paper": _judging(PAPER),
        "tiny": _judging(TINY, judged=6, always=4, benign=4),
    }


def _judging(size: BaffleScale, **changes: Any) -> JudgeScale:
    inherited = {field.name: getattr(size, field.name) for field in fields(size)}
    return JudgeScale(**(inherited | changes))


def setup_of(scales: Mapping[str, JudgeScale]) -> Setup[JudgePlan]:
    """Return the set-up of an experiment that has these scales."""

    def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> JudgePlan:
        size = scales[scale]
        common = setup.common(size, COMMON | {"data.server": 0.0}, SMALL_MODELS, model)
        open_ = "model.name" not in size.changes
        slower = SLOWER.get(common["model.name"], {}) if open_ else {}
        own = {name: slower if data.shape[0] > 1 else {} for name, data in sets.items()}
        counted = {name: len(data.y_train) for name, data in sets.items()}
        return JudgePlan(size, common, counted, seeds, own)

    return Setup(scales, SMALL_MODELS, plan, describe, LEGEND)


def describe(plan: JudgePlan) -> str:
    """Say in a few words what was run."""
    common, scale = plan.common, plan.scale
    return (
        f"model {common['model.name']}, Dirichlet {common['agents.alpha']:g}, "
        f"{common['training.epochs']} local epochs in batches of {common['training.batch_size']}, "
        f"ten validators, q = {common['validation.quorum']}, look-back {scale.look_back}; "
        f"{scale.base_rounds} honest rounds before, then {scale.warm_up} rounds without a vote"
    )


LEGEND = (
    "FP: benign candidates that were rejected, of all that were voted on. FP of one: votes of "
    "agents that call such a candidate poisoned, of all votes. In parentheses: the lowest and the "
    "highest repeat."
)


def poisoned(result: Result) -> set[int]:
    """Return the rounds in which the attacker submitted poison; in others it trained honestly."""
    return {judged(record) for record in submitted(result)}


def alarms(result: Result) -> Count:
    """Count the benign candidates of a run that were voted on, and those that were rejected."""
    return errors(result.records, poisoned(result)).alarms


def flags(result: Result) -> Count:
    """Count the votes on benign candidates of a run, and those that call one poisoned."""
    return flagged_wrongly(result.records, poisoned(result))


def false_alarms(results: list[Result]) -> dict[str, Rate]:
    """Return two columns of a table: false alarms of the quorum, and of one voter."""
    return {"FP": rate(results, alarms), "FP of one": rate(results, flags)}
