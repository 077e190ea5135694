"""Putting results together: by their labels, and single figures of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fedjury.experiments.engine.case import Records, Result
from fedjury.experiments.engine.metrics import judged
from fedjury.protocol.record import RoundRecord

Key = tuple[str | int | float, ...]

Measured = Literal["accuracy", "backdoor"]
"""What is measured of a round's model."""


def by(results: Iterable[Result], *labels: str) -> dict[Key, list[Result]]:
    """Group results that have the same labels, in the order in which they first come."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(result.labels[label] for label in labels), []).append(result)
    return groups


def last(result: Result, figure: Measured) -> float:
    """Return a figure of the last round; 0 where it was not measured."""
    return getattr(result.records[-1].model, figure) or 0.0


def lately(result: Result, figure: Measured, rounds: int) -> float:
    """Return the mean of a figure over so many of the last rounds, or over all if fewer."""
    values = [getattr(record.model, figure) or 0.0 for record in result.records[-rounds:]]
    return sum(values) / len(values)


def attacked(result: Result) -> Records:
    """Return the records that judge the rounds in which the attacker was to strike."""
    inject = set(result.settings.backdoor.inject)
    return [record for record in result.records if judged(record) in inject]


def measured(result: Result) -> list[float]:
    """Return the backdoor's success in the candidates of these rounds."""
    return [hidden(record) for record in attacked(result)]


def hidden(record: RoundRecord) -> float:
    """Return the backdoor's success in a round's candidate; 0 where it was not measured."""
    return (record.candidate and record.candidate.backdoor) or 0.0
