"""What experiments of one kind share: how large they are, and what all their runs are run with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from fedjury.learning.datasets.dataset import Dataset

P = TypeVar("P", bound="Plan")

PLAIN: Mapping[str, Any] = {
    "model.name": "classifier",
    "training.epochs": 1,
    "training.batch_size": 4,
    "training.learning_rate": 0.1,
    "training.momentum": 0.0,
    "aggregation.rule": "mean",
    "aggregation.server_lr": 1.0,
    "validation.validators": 0,
    "detection.detectors": [],
    "detection.quarantine": False,
    "collect.wait": False,
    "sampling.by_seed": True,
}
"""Where every experiment starts from: plain federated averaging that nobody defends.

The defaults of the programs are a defended run, and may change; published tables must not."""


@dataclass(frozen=True)
class Scale:
    """How large an experiment is."""

    name: str
    data: tuple[str, ...]
    """The data sets it is run on unless told otherwise."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the set-up's common settings, as "section.key" -> value."""


@dataclass(frozen=True)
class Plan:
    """What an experiment is run with."""

    scale: Scale
    common: Mapping[str, Any]
    """Settings of all its cells, as "section.key" -> value."""
    sets: Mapping[str, int]
    """Data set, as settings call it -> samples in its training set."""
    seeds: range


@dataclass(frozen=True)
class Setup(Generic[P]):
    """A kind of experiments, such as those of one paper."""

    scales: Mapping[str, Scale]
    models: Mapping[str, Mapping[str, Any]]
    """Networks to choose from where the scale does not say which: the first unless told."""
    plan: Callable[[str, Mapping[str, Dataset], range, str], P]
    """(scale, data sets by name, seeds, network) -> what its experiments make their cells from."""
    describe: Callable[[P], str]
    """Say in a few words what was run; scale, data and repeats are said already."""
    legend: str
    """How all its tables are to be read."""


def planner(
    kind: Callable[[Any, Mapping[str, Any], Mapping[str, int], range], P],
    scales: Mapping[str, Any],
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
) -> Callable[[str, Mapping[str, Dataset], range, str], P]:
    """Build a set-up's ``plan``, where its experiments take several data sets."""

    def plan(scale: str, sets: Mapping[str, Dataset], seeds: range, model: str) -> P:
        counted = {name: len(data.y_train) for name, data in sets.items()}
        return kind(scales[scale], common(scales[scale], settings, models, model), counted, seeds)

    return plan


def common(
    scale: Scale,
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    model: str,
) -> dict[str, Any]:
    """Put the settings of all cells together: the set-up's, the network's, the scale's."""
    chosen = model or next(iter(models))
    network = {} if "model.name" in scale.changes else {"model.name": chosen} | dict(models[chosen])
    return dict(PLAIN) | dict(settings) | network | dict(scale.changes)
