"""What is different where cells keep their updates, made of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedjury import rules
from fedjury.cluster.engine import Engine
from fedjury.cluster.lazy_engine import LazyEngine
from fedjury.cluster.partitions import Placement, gathered
from fedjury.config.settings import Settings
from fedjury.registry import DETECTORS, Need
from fedjury.round.collect import CollectStrategy, Synchronous
from fedjury.round.collect.tallied import InCells, RowsOfCell
from fedjury.round.state import RowsInCells
from fedjury.rules.partitions import Partitions
from fedjury.rules.sums import SumRule, sum_rule

KEPT = "where cells keep their updates (cells.count)"


NONE = RowsOfCell(np.empty(0, np.int64), np.empty(0, np.int64))


def check_cells(settings: Settings) -> None:
    """Refuse what needs updates to come up to the aggregator, where they do not.

    Raises
    ------
    ValueError
        That says what it is.
    """
    if not settings.cells.count:
        return
    if "detection.detectors" in settings.given and (blind := blind_detectors(settings)):
        raise ValueError(f"detector {blind[0]!r} looks at updates, which do not come up {KEPT}")
    if Need.UPDATE_SUMS in rules.RULES.facts(settings.aggregation.rule).needs:
        raise ValueError(
            f"rule {settings.aggregation.rule!r} goes by what each agent sent in earlier rounds, "
            f"which nobody adds up {KEPT}"
        )
    secure = settings.groups.secure
    unfit = (
        (settings.groups.size != 1 and not secure, "groups.size other than 1"),
        (settings.validation.on_groups and not secure, "validation.on = 'groups'"),
        (settings.validation.piggy_back, "votes with updates (piggy-back)"),
        (bool(settings.privacy.noise), "privacy.noise"),
        (settings.evaluation.by_agent, "evaluation.by_agent"),
        (settings.collect.strategy != "synchronous", "another collect.strategy than synchronous"),
    )
    for here, what in unfit:
        if here:
            raise ValueError(f"{what} cannot be had {KEPT}: it needs updates to come up")
    if secure:
        _check_groups_in_cells(settings)


def _check_groups_in_cells(settings: Settings) -> None:
    """Refuse groups whose agents would have to be of several cells.

    Raises
    ------
    ValueError
        That says what it is.
    """
    apart = (
        (settings.groups.fixed, "groups.fixed", "a group is drawn within a cell for each round"),
        (
            settings.validation.decide == "pooled",
            "validation.decide = 'pooled'",
            "the groups of validators would be as many as cells allow",
        ),
    )
    for here, what, why in apart:
        if here:
            raise ValueError(f"{what} cannot be had with groups.secure {KEPT}: {why}")


def blind_detectors(settings: Settings) -> tuple[str, ...]:
    """Return the detectors that see nothing, as they look at updates and these stay in cells."""
    if not settings.cells.count:
        return ()
    names = settings.detection.detectors
    return tuple(name for name in names if Need.UPDATES in DETECTORS.facts(name).needs)


def sums_of(settings: Settings) -> SumRule | None:
    """Return the rule as one that asks cells for sums; None where it is given updates.

    Raises
    ------
    ValueError
        If the run needs more of its updates than sums; says what.
    """
    check_cells(settings)
    if not settings.cells.count or settings.cells.engine != "none" or settings.groups.secure:
        return None  # under secure aggregation the rule is given the means of groups
    said = settings.aggregation
    options: dict[str, Any] = dict(said.options)
    clip = float(options.pop("clip", said.clip) or 0)
    return sum_rule(said.rule, clip, said.pre_aggregation, options, settings.limits.samples)


def rows_on(engine: Engine, partitions: int) -> RowsInCells:
    """Return how rows are had that the workers of an engine hold, in so many partitions."""

    def rows(key: tuple[int, int], taken: Mapping[int, RowsOfCell], d: int) -> Partitions:
        cells = range(1, engine.workers + 1)
        placements = [Placement(*taken.get(cell, NONE)) for cell in cells]
        return gathered(engine, key, placements, d, partitions, keep=True)

    return rows


def rows_of(settings: Settings) -> RowsInCells | None:
    """Return how the rows are had that cells keep; None where nobody may have them, or can."""
    if settings.cells.engine != "ray" or settings.groups.secure:
        return None
    engine = LazyEngine(settings.cells.address, settings.run.name, settings.cells.count)
    return rows_on(engine, settings.aggregation.partitions)


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
    return {
        "partitions": settings.aggregation.partitions,
        "finite": settings.limits.finite,
        "agents": settings.limits.agents,
    }
