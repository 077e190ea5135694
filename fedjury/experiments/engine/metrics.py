"""Figures of runs and a defence's errors: pure functions of the records of rounds.

A false negative is a poisoned candidate that was accepted, a false positive a benign one that was
rejected. Only candidates that were voted on count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, NamedTuple

from fedjury.experiments.engine.case import Records, Result
from fedjury.experiments.engine.intervals import Count, Interval, design_effect, interval, total
from fedjury.protocol.measured import harm_of, largest_let_in
from fedjury.protocol.record import RoundRecord


class Rate(NamedTuple):
    """A share, from the counts of several runs put together."""

    runs: tuple[Count, ...]
    effect: float = 1.0
    """Design effect of its interval, where its own runs show none."""

    @property
    def hits(self) -> int:
        """How many were counted."""
        return total(self.runs).hits

    @property
    def of(self) -> int:
        """Of how many."""
        return total(self.runs).of

    @property
    def each(self) -> tuple[float, ...]:
        """The share in each run that has any, for the spread over repeats."""
        return tuple(run.hits / run.of for run in self.runs if run.of)

    @property
    def value(self) -> float | None:
        """The share; None if there was nothing to count."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> Interval | None:
        """Its 95 % interval, see ``intervals``."""
        return interval(self.runs, self.effect)

    def with_effect(self, effect: float | None) -> Rate:
        """Return the same with another design effect; None: it is not known."""
        return self._replace(effect=effect or 1.0)

    @property
    def rest(self) -> Rate:
        """The share of those that were not counted."""
        return Rate(tuple(Count(run.of - run.hits, run.of) for run in self.runs), self.effect)


class Mean(NamedTuple):
    """A figure over repeats."""

    values: tuple[float, ...]
    unit: str = "%"
    """"%": of shares, and shown times 100, as are "points"; else it is shown as it is."""

    @property
    def value(self) -> float | None:
        """The mean."""
        return sum(self.values) / len(self.values) if self.values else None


class Errors(NamedTuple):
    """What a defence got wrong in one run."""

    missed: Count
    """False negatives, of the poisoned candidates."""
    alarms: Count
    """False positives, of the benign ones."""


def errors(records: Records, poisoned: Collection[int]) -> Errors:
    """Count a run's errors; ``poisoned`` are the rounds whose candidate was."""
    missed = alarms = bad = good = 0
    for record in voted(records):
        if judged(record) in poisoned:
            bad += 1
            missed += bool(record.accepted)
        else:
            good += 1
            alarms += not bool(record.accepted)
    return Errors(Count(missed, bad), Count(alarms, good))


def voted(records: Records) -> Records:
    """Return the rounds in which there was a vote."""
    return [record for record in records if record.votes.asked]


def judged(record: RoundRecord) -> int:
    """Return the round whose candidate a record's verdict is about; 0 where there was none."""
    return record.judged or 0


def flagged(record: RoundRecord) -> Count:
    """Count the agents' votes on a round's candidate, and those that call it poisoned."""
    votes = record.votes.of_agents.values()
    return Count(sum(votes), len(votes))


def flagged_wrongly(records: Records, poisoned: Collection[int]) -> Count:
    """Count the agents' votes on benign candidates, and those that call one poisoned."""
    return total(flagged(record) for record in voted(records) if judged(record) not in poisoned)


# ---------------------------------------------------------------- results put together

Key = tuple[str | int | float, ...]

Measured = Literal["accuracy", "backdoor"]
"""What is measured of a round's model."""


def by(results: Iterable[Result], *labels: str) -> dict[Key, list[Result]]:
    """Group results that have the same labels, in the order in which they first come."""
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault(tuple(result.labels[label] for label in labels), []).append(result)
    return groups


def rate(results: Iterable[Result], count: Callable[[Result], Count]) -> Rate:
    """Put the counts of results together, seed by seed: runs of one seed are no two repeats."""
    seeds = by(results, "seed").values()
    return Rate(tuple(total(map(count, runs)) for runs in seeds))


Poisoned = Callable[[Result], Collection[int]]
"""A run -> the rounds whose candidates are poisoned."""


def injected(result: Result) -> Collection[int]:
    """Return the rounds in which the attackers were to strike."""
    return result.settings.backdoor.inject


def missed(result: Result) -> Count:
    """Count the poisoned candidates of a run, and those that were accepted."""
    return errors(result.records, injected(result)).missed


def alarms(result: Result) -> Count:
    """Count the benign candidates of a run that were voted on, and those that were rejected."""
    return errors(result.records, injected(result)).alarms


def alarms_effect(results: Iterable[Result], poisoned: Poisoned = injected) -> float | None:
    """Return the design effect of the false alarms of all cells; None where there are none."""
    cells: dict[Key, list[Count]] = {}
    for result in results:
        cell = tuple(value for label, value in result.labels.items() if label != "seed")
        cells.setdefault(cell, []).append(errors(result.records, poisoned(result)).alarms)
    return design_effect(cells.values())


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


# ---------------------------------------------------------------- what got in, and what it cost

HARM = (
    "largest let in: the largest backdoor in a model accepted since the first attack on the "
    "defence, of all repeats; accuracy lost: the best of any accepted model minus that at the end."
)
"""What the columns of :func:`harm` say."""


def let_in(result: Result) -> float | None:
    """Return the largest backdoor in a model that was accepted since the defence was attacked.

    It is None where no backdoor is measured, or nothing was accepted since.
    """
    on = result.settings.validation.warm_up + 1
    first = min((r for r in result.settings.backdoor.inject if r >= on), default=on)
    most = largest_let_in(result.records, first)
    return None if most is None else most.success


def accuracy_lost(result: Result) -> float | None:
    """Return by how much accuracy at the end is below its best; None where it is not measured."""
    return harm_of(result.records).accuracy_lost


def harm(results: Iterable[Result]) -> dict[str, Mean]:
    """Return two columns of a table: the largest backdoor let in by any run, and accuracy lost."""
    runs = list(results)
    found = [value for value in map(let_in, runs) if value is not None]
    costs = [value for value in map(accuracy_lost, runs) if value is not None]
    return {
        "largest let in": Mean((max(found),) if found else ()),
        "accuracy lost (points)": Mean(tuple(costs), "points"),
    }
