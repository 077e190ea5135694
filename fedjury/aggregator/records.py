"""The records of a run's rounds, as ``rounds.jsonl`` holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedjury.aggregator.disk import StoreError, damaged, readable
from fedjury.protocol.codec import MAX_COUNT, jsonable

Record = dict[str, Any]

ROUNDS = "rounds.jsonl"

LEFT = "left"
"""Key of a record on disk: what its round left to the next. Who reads a run never sees it."""

TIME = "time"
"""Key of a record on disk: when its round was written, in seconds since 1970 (UTC). It is no part
of what a run comes to: a round that is done again has another."""

NUMBER = (int, float)
REPORTED: Mapping[str, tuple[type, ...]] = {
    "accepted": (bool, type(None)),
    "accuracy": (*NUMBER, type(None)),
    "refused": (dict,),
    "seconds": NUMBER,
    "updates": (int,),
}
"""What a report is made of."""

SHOWN = 5
"""Rounds that are named in a sentence."""


def line_of(record: Record) -> bytes:
    """Write a record as a line."""
    return (json.dumps(jsonable(record), separators=(",", ":"), allow_nan=False) + "\n").encode()


def is_record(value: object) -> bool:
    """Say whether this is the record of a round, as far as resuming goes by it."""
    if not isinstance(value, dict) or not isinstance(value.get(LEFT, []), list):
        return False
    return all(
        type(value.get(key)) is int and 0 <= value[key] <= MAX_COUNT for key in ("round", "version")
    )


def lines_of(folder: Path) -> dict[int, Record]:
    """Read round -> record; of a round written twice, the later one.

    What is no record is passed over: half a line is what a crash leaves.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    file = folder / ROUNDS
    records: dict[int, Record] = {}
    try:
        lines = readable(file).read_bytes().splitlines() if file.exists() else []
    except OSError as why:
        raise damaged(file, why.strerror or str(why)) from why
    for line in lines:
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            if is_record(record):
                records[record["round"]] = record
    return records


def read_records(folder: Path, *, timed: bool = False) -> list[Record]:
    """Read the rounds of a run, oldest first; ``timed``: with the time at which each was over."""
    return [plain(record, timed=timed) for record in lines_of(folder).values()]


def plain(record: Record, *, timed: bool = False) -> Record:
    """Return a record without what concerns the disk alone; ``timed``: but with its time."""
    left_out = {LEFT} if timed else {LEFT, TIME}
    return {key: value for key, value in record.items() if key not in left_out}


def last_of(lines: Mapping[int, Record], note: Record) -> Record:
    """Return the record to go on from, given that of the newest model: the last of its version.

    Later ones stand on models that are gone.
    """
    fitting = [
        number
        for number, record in lines.items()
        if number >= note["round"] and record["version"] == note["version"]
    ]
    return lines[max(fitting)] if fitting else note


def until(record: Record, lines: Mapping[int, Record], notes: Iterable[Record]) -> list[Record]:
    """Return the records up to this one, in order; the models' notes stand in for lost lines."""
    every = {note["round"]: note for note in notes} | {**lines, record["round"]: record}
    return [every[number] for number in sorted(every) if 0 < number <= record["round"]]


def check(folder: Path) -> None:
    """Make sure that a report can be made of a run's records.

    Raises
    ------
    StoreError
        If one lacks what all have: better before the next round than after the last.
    """
    for number, record in lines_of(folder).items():
        for key, types in REPORTED.items():
            if not isinstance(record.get(key, ...), types):
                raise StoreError(
                    f"{folder / ROUNDS} is damaged (in the record of round {number}: {key!r}); "
                    "remove that line to go on without it"
                )


def holes(records: Iterable[Record], last: int) -> str:
    """Name the rounds up to the last of which there is no record; empty if there are none."""
    known = {record["round"] for record in records}
    lost = [str(number) for number in range(1, last + 1) if number not in known]
    return ", ".join(lost[:SHOWN]) + (f" and {len(lost) - SHOWN} more" if lost[SHOWN:] else "")
