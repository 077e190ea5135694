"""What is different where cells keep their updates, made of the settings."""

from __future__ import annotations

from typing import Any

from fedjury.config.settings import Settings
from fedjury.registry import DETECTORS, Need
from fedjury.round.collect import CollectStrategy, Synchronous
from fedjury.round.collect.tallied import InCells
from fedjury.rules.sums import SumRule, sum_rule

KEPT = "where cells keep their updates (cells.count)"


def sums_of(settings: Settings) -> SumRule | None:
    """Return the rule as one that asks cells for sums; None where updates come up.

    Raises
    ------
    ValueError
        If the run needs more of its updates than sums; says what.
    """
    if not settings.cells.count:
        return None
    said = settings.aggregation
    for name in settings.detection.detectors:
        if Need.UPDATES in DETECTORS.facts(name).needs:
            raise ValueError(f"detector {name!r} looks at updates, which do not come up {KEPT}")
    unfit = (
        (settings.groups.size != 1, "groups.size other than 1"),
        (settings.groups.secure, "groups.secure"),
        (settings.validation.on_groups, "validation.on = 'groups'"),
        (settings.validation.piggy_back, "votes with updates (piggy-back)"),
        (bool(settings.privacy.noise), "privacy.noise"),
        (settings.evaluation.by_agent, "evaluation.by_agent"),
        (settings.collect.strategy != "synchronous", "another collect.strategy than synchronous"),
    )
    for here, what in unfit:
        if here:
            raise ValueError(f"{what} cannot be had {KEPT}: it needs updates to come up")
    options: dict[str, Any] = dict(said.options)
    clip = float(options.pop("clip", said.clip) or 0)
    return sum_rule(said.rule, clip, said.pre_aggregation, options, settings.limits.samples)


def strategy_in(settings: Settings, usual: CollectStrategy[Any]) -> CollectStrategy[Any]:
    """Return how contributions come together: as usual, or by what cells tell."""
    if not settings.cells.count:
        return usual
    assert isinstance(usual, Synchronous)
    return InCells(usual)


def told_to_cells(settings: Settings) -> dict[str, Any]:
    """Return what ingest workers are told of a run; empty where there are none."""
    if not settings.cells.count:
        return {}
    return {"partitions": settings.aggregation.partitions, "finite": settings.limits.finite}
