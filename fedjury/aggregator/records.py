"""The records of a run's rounds, as ``rounds.jsonl`` holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fedjury.aggregator.durable_files import StoreError, damaged, readable
from fedjury.protocol.record import RecordError, RoundRecord, read, to_json

ROUNDS = "rounds.jsonl"

RESUMED = ("round", "version")
"""What resuming goes by."""

REPORTED = ("accepted", "accuracy", "invalid_messages", "seconds", "updates")
"""What a report is made of."""

SHOWN = 5
"""Rounds that are named in a sentence."""

Records = list[RoundRecord]


def line_of(record: RoundRecord) -> bytes:
    """Return a record as a line."""
    return (json.dumps(to_json(record), separators=(",", ":"), allow_nan=False) + "\n").encode()


def lines_of(folder: Path) -> dict[int, RoundRecord]:
    """Read round -> record; of a round written twice, the later one.

    What is no record is passed over: half a line is what a crash leaves.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    return {number: record for number, (record, _) in _latest(folder).items()}


def _latest(folder: Path) -> dict[int, tuple[RoundRecord, object]]:
    """Read round -> its record, and what stands in the file."""
    file = folder / ROUNDS
    records: dict[int, tuple[RoundRecord, object]] = {}
    try:
        lines = readable(file).read_bytes().splitlines() if file.exists() else []
    except OSError as why:
        raise damaged(file, why.strerror or str(why)) from why
    for line in lines:
        with suppress(ValueError, RecursionError):
            message = json.loads(line)
            record = read(message, RESUMED)
            records[record.round] = record, message
    return records


def read_records(folder: Path) -> Records:
    """Read the rounds of a run, oldest first, without what they left on disk."""
    records = lines_of(folder)
    return [replace(records[number], left=()) for number in sorted(records)]


def last_of(lines: Mapping[int, RoundRecord], note: RoundRecord) -> RoundRecord:
    """Return the record to go on from, given that of the newest model: the last of its version.

    Later ones stand on models that are gone.
    """
    fitting = [
        number
        for number, record in lines.items()
        if number >= note.round and record.version == note.version
    ]
    return lines[max(fitting)] if fitting else note


def until(
    record: RoundRecord, lines: Mapping[int, RoundRecord], notes: Iterable[RoundRecord]
) -> Records:
    """Return the records up to this one, in order; the models' notes stand in for lost lines."""
    every = {note.round: note for note in notes} | {**lines, record.round: record}
    return [every[number] for number in sorted(every) if 0 < number <= record.round]


def check(folder: Path) -> None:
    """Make sure that a report can be made of a run's records.

    Raises
    ------
    StoreError
        If one lacks what all have: better before the next round than after the last.
    """
    for number, (_, message) in _latest(folder).items():
        try:
            read(message, REPORTED)
        except RecordError as key:
            raise StoreError(
                f"{folder / ROUNDS} is damaged (in the record of round {number}: {key}); "
                "remove that line to continue without it"
            ) from key


def holes(records: Iterable[RoundRecord], last: int) -> str:
    """Name the rounds up to the last of which there is no record; empty if there are none."""
    known = {record.round for record in records}
    lost = [str(number) for number in range(1, last + 1) if number not in known]
    return ", ".join(lost[:SHOWN]) + (f" and {len(lost) - SHOWN} more" if lost[SHOWN:] else "")
