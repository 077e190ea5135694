"""All runs of an experiment as one tidy table: what was run, and the counts behind every rate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedjury.config.settings import Settings
from fedjury.experiments.engine.case import Result
from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.engine.metrics import errors, flagged_wrongly, last
from fedjury.experiments.engine.setup import P
from fedjury.experiments.engine.tables import Row, Table

ALWAYS = (
    "data.name",
    "model.name",
    "agents.n",
    "agents.samples",
    "agents.malicious",
    "sampling.client_fraction",
    "run.rounds",
    "aggregation.rule",
    "validation.validators",
)
"""Settings that are shown even if all cells have the same."""

ELSEWHERE = ("run.seed", "run.name", "run.directory", "broker.", "agents.attack_log")
"""Settings that a label says, or that change nothing."""


def table(experiment: Experiment[P], results: Sequence[Result]) -> Table:
    """Make a row of each run: its labels, settings that matter, counts and seconds."""
    every = [_flat(result.settings) for result in results]
    kept = _kept(every)
    rows: list[Row] = []
    for result, settings in zip(results, every, strict=True):
        shown: dict[str, Any] = {key: settings[key] for key in kept}
        row: Row = {
            "cell": result.case.job.key,
            **result.labels,
            **shown,
            **counts(result, experiment.poisoned(result)),
        }
        rows.append({**row, **experiment.counts(result), "seconds": result.seconds})
    return Table("runs", "Runs", rows)


def counts(result: Result, poisoned: Collection[int]) -> Row:
    """Count what is counted in every experiment: rounds, wrong verdicts, votes, where it ends."""
    wrong = errors(result.records, poisoned)
    return {
        "rounds": len(result.records),
        "rejected": sum(record.accepted is False for record in result.records),
        "FN": wrong.missed,
        "FP": wrong.alarms,
        "FP of one agent": flagged_wrongly(result.records, poisoned),
        "accuracy at the end": last(result, "accuracy"),
        "backdoor at the end": last(result, "backdoor"),
    }


def _flat(settings: Settings) -> Mapping[str, Any]:
    """Return the settings as "section.key" -> value."""
    return {
        f"{section}.{key}": value
        for section, keys in settings.model_dump().items()
        for key, value in keys.items()
    }


def _kept(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which settings are shown: those in which cells differ, and a few always."""
    first = every[0] if every else {}
    return [
        key
        for key, value in first.items()
        if key in ALWAYS
        or (not key.startswith(ELSEWHERE) and any(other[key] != value for other in every))
    ]
