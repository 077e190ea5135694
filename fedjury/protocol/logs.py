"""What the topics for people carry: records of rounds, invalid messages, a run's rounds in short.

Each is one type with one writer and one reader, as a record is; see ``fedjury/protocol/record.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fedjury.protocol.fields import (
    COUNT,
    COUNTS,
    NAME_OR_NOTHING,
    OTHER,
    REASON,
    TEXT,
    Json,
    entry,
    jsonable,
    write,
)
from fedjury.protocol.messages import InvalidLog, RoundLog
from fedjury.protocol.record import RecordError, RoundRecord, read, read_fields, to_json


@dataclass(frozen=True, slots=True)
class RoundRepeated:
    """That a round is tried again, on the topic of the records: the new attempt, and why."""

    round: int = entry(COUNT, "the round that is tried again")
    attempt: int = entry(COUNT, "the new attempt", 1)
    why: str = entry(TEXT, "why", "", "repeated")


@dataclass(frozen=True, slots=True)
class InvalidMessages:
    """Which messages were invalid so far in a round, and the latest of them: on ``log/invalid``."""

    round: int = entry(COUNT, "the round")
    invalid_messages: Mapping[str, int] = entry(COUNTS, "how many were invalid, by reason", {})
    agent: str = entry(
        NAME_OR_NOTHING, "who sent the latest; empty if nobody knows", "", "latest.agent"
    )
    reason: str = entry(REASON, "why it was invalid", OTHER, "latest.reason")


@dataclass(frozen=True, slots=True)
class RunHistory:
    """A run's last rounds in short, for people who begin to watch in mid-run."""

    rounds: tuple[RoundRecord, ...] = ()
    """Of each what :data:`COLUMNS` names."""
    invalid_messages: Mapping[str, int] = entry(COUNTS, "in the whole run, by reason", {})


COLUMNS: Mapping[str, Callable[[RoundRecord], Any]] = {
    "round": lambda record: record.round,
    "attempt": lambda record: record.attempt,
    "accepted": lambda record: record.accepted,
    "why": lambda record: record.why,
    "accuracy": lambda record: record.model.accuracy,
    "candidate_accuracy": lambda record: record.candidate.accuracy if record.candidate else None,
    "backdoor": lambda record: record.model.backdoor,
    "metrics": lambda record: record.model.metrics,
    "poisoned": lambda record: record.votes.poisoned if record.votes.asked else None,
    "clean": lambda record: record.votes.clean if record.votes.asked else None,
    "silent": lambda record: record.votes.silent if record.votes.asked else None,
    "selected": lambda record: record.selected,
    "updates": lambda record: record.updates,
    "updates_per_second": lambda record: record.timing.updates_per_second,
    "bytes_in": lambda record: record.traffic.bytes_in,
    "bytes_out": lambda record: record.traffic.bytes_out,
    "group_counts": lambda record: record.groups.counts if record.groups else None,
}
"""What ``log/history`` says of a round: keys of its record, and of the ``votes`` in it."""

KEPT = 1000
"""Rounds of which it tells."""

Log = RoundRecord | RoundRepeated | InvalidMessages | RunHistory


def log_to_json(log: Log) -> Json:
    """Return what is said on a topic for people, as JSON."""
    if isinstance(log, RoundRecord):
        return to_json(log)
    if not isinstance(log, RunHistory):
        return write(log, {})
    missing = {
        "metrics": not any(one.model.metrics for one in log.rounds),
        "group_counts": not any(one.groups for one in log.rounds),
    }
    columns = {key: column for key, column in COLUMNS.items() if not missing.get(key)}
    every = [[column(one) for column in columns.values()] for one in log.rounds]
    content: Json = {"columns": [*columns], "rows": every, "invalid_messages": log.invalid_messages}
    return {key: jsonable(value) for key, value in content.items()}


def read_log(kind: type, content: Json) -> Log:
    """Read what a message of a kind for people says.

    Raises
    ------
    RecordError
        If it is no record.
    """
    if kind is RoundLog and "repeated" in content:
        return RoundRepeated(**read_fields(RoundRepeated, content, ("round",)))
    if kind is RoundLog:
        return read(content)
    if kind is InvalidLog:
        return InvalidMessages(**read_fields(InvalidMessages, content, ("round",)))
    columns, lines = content.get("columns"), content.get("rows")
    counts = read_fields(RunHistory, content, ())
    return RunHistory(tuple(_rounds(columns, lines)), **counts)


def _rounds(columns: object, lines: object) -> list[RoundRecord]:
    """Read the last lines of a run's history, in order; those that are no round are left out."""
    if not isinstance(columns, list) or not isinstance(lines, list):
        return []
    keys = [key for key in columns[:100] if isinstance(key, str)]
    result = {}
    for line in lines[-KEPT:]:
        if isinstance(line, list) and len(line) == len(keys) == len(columns):
            content = dict(zip(keys, line, strict=True))
            with suppress(RecordError):
                record = read({**content, "votes": content})
                result[record.round] = record
    return [result[number] for number in sorted(result) if number]
