"""The rounds of a run as people see them: rows, made of records that strangers may have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fedjury.monitor import harmless
from fedjury.monitor.harmless import NOTHING, count, number, share

DETECTORS = 8
"""Names of detectors that are told apart."""

SHOWN = 20
"""Suspected agents, and agents in quarantine, that are named."""


class Row(NamedTuple):
    """A round that is over. What only the whole record says is 0 or None where ``whole`` is not."""

    round: int
    attempt: int = 1
    accepted: bool | None = None
    """None: there was nothing to judge yet."""
    why: str = ""
    judged: int | None = None
    """The round whose candidate the verdict is about."""
    accuracy: float | None = None
    candidate_accuracy: float | None = None
    backdoor: float | None = None
    candidate_backdoor: float | None = None
    poisoned: int = 0
    clean: int = 0
    silent: int = 0
    called: int = 0
    updates: int = 0
    missing: int = 0
    seconds: float | None = None
    updates_per_second: float | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: int = 0
    refused: Mapping[str, int] = NOTHING
    version: int | None = None
    whole: bool = False

    @property
    def asked(self) -> int:
        """How many were asked for their vote."""
        return self.poisoned + self.clean + self.silent

    @property
    def verdict(self) -> str:
        """Say what became of the candidate."""
        return {True: "accepted", False: "rejected", None: "pending"}[self.accepted]

    def alike(self, other: Row) -> bool:
        """Say whether both can be of the same round of the same run."""
        return (self.attempt, self.accepted, self.accuracy, self.updates) == (
            other.attempt,
            other.accepted,
            other.accuracy,
            other.updates,
        )


def row_of(record: Mapping[str, Any]) -> Row | None:
    """Read the record of a finished round; None if it is none."""
    if count(record.get("round")) is None:
        return None
    row = _short(record, harmless.entries(record.get("votes")))
    return row._replace(
        why=harmless.text(record.get("why")),
        judged=count(record.get("judged")),
        candidate_backdoor=share(record.get("candidate_backdoor")),
        missing=count(record.get("missing")) or 0,
        seconds=number(record.get("seconds")),
        updates_per_second=number(record.get("updates_per_second")),
        bytes_in=count(record.get("bytes_in"), 10**15) or 0,
        bytes_out=count(record.get("bytes_out"), 10**15) or 0,
        dropped=count(record.get("dropped")) or 0,
        refused=harmless.refusals(record.get("refused")),
        version=count(record.get("version")),
        whole=True,
    )


def rows_of(columns: object, rows: object, most: int) -> list[Row]:
    """Read the last rows of ``log/past``; what is no row is passed over."""
    if not isinstance(columns, list) or not isinstance(rows, list):
        return []
    keys = [key if isinstance(key, str) else "" for key in columns[:100]]
    found = {}
    for values in rows[-most:]:
        if isinstance(values, list) and len(values) == len(keys):
            said = dict(zip(keys, values, strict=True))
            if count(said.get("round")):
                row = _short(said, said)
                found[row.round] = row
    return [found[number] for number in sorted(found)]


def _short(said: Mapping[str, Any], votes: Mapping[str, Any]) -> Row:
    """Read what both kinds of records say of a round."""
    return Row(
        round=count(said["round"]) or 0,
        attempt=count(said.get("attempt")) or 1,
        accepted=harmless.truth(said.get("accepted")),
        accuracy=share(said.get("accuracy")),
        candidate_accuracy=share(said.get("candidate_accuracy")),
        backdoor=share(said.get("backdoor")),
        poisoned=count(votes.get("poisoned")) or 0,
        clean=count(votes.get("clean")) or 0,
        silent=count(votes.get("silent")) or 0,
        called=count(said.get("called")) or 0,
        updates=count(said.get("updates")) or 0,
    )


# ---------------------------------------------------------------- suspects


class Suspects(NamedTuple):
    """Whom the detectors suspected in a round, and who is no longer called after it."""

    round: int = 0
    most: tuple[tuple[str, float], ...] = ()
    """The most suspected agents and how much, highest first."""
    detectors: Mapping[str, int] = NOTHING
    """Detector -> agents that it suspects most."""
    quarantined: int = 0
    named: tuple[str, ...] = ()
    """The first of those in quarantine."""
    for_good: int = 0
    left_out: int = 0

    @property
    def suspected(self) -> int:
        """How many agents are suspected."""
        return sum(self.detectors.values())


def suspects_of(record: Mapping[str, Any], before: Suspects | None = None) -> Suspects | None:
    """Read what a record says of suspicion; None if nobody looks.

    A detector that suspected somebody ``before`` and now nobody is there with a 0.
    """
    if "suspicion" not in record and "suspected" not in record:
        return None
    suspected = harmless.entries(record.get("suspected"))
    out = harmless.names(record.get("quarantined"))
    return Suspects(
        count(record.get("round")) or 0,
        harmless.highest(record.get("suspicion"), SHOWN),
        _by_detector(
            (detector for agent, detector in suspected.items() if harmless.name(agent)),
            before.detectors if before is not None else (),
        ),
        len(out),
        tuple(out[:SHOWN]),
        len(harmless.names(record.get("for_good"))),
        count(record.get("left_out")) or 0,
    )


def _by_detector(detectors: Iterable[object], known: Iterable[str]) -> dict[str, int]:
    """Count how many agents each detector suspects; only so many are told apart."""
    found = dict.fromkeys(known, 0)
    for said in detectors:
        detector = harmless.name(said) or harmless.OTHER
        if detector not in found and len(found) >= DETECTORS - 1:
            detector = harmless.OTHER
        found[detector] = found.get(detector, 0) + 1
    return found


# ---------------------------------------------------------------- sums


class Tally(NamedTuple):
    """What rounds add up to."""

    accepted: int = 0
    rejected: int = 0
    pending: int = 0
    poisoned: int = 0
    clean: int = 0
    silent: int = 0
    updates: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    dropped: int = 0
    refused: Mapping[str, int] = NOTHING


def sum_of(rows: Iterable[Row], start: Tally = Tally()) -> Tally:  # noqa: B008 - it is immutable
    """Add rounds to a tally."""
    rows = list(rows)
    refused = dict(start.refused)
    for row in rows:
        for reason, times in row.refused.items():
            refused[reason] = refused.get(reason, 0) + times
    return Tally(
        start.accepted + sum(row.accepted is True for row in rows),
        start.rejected + sum(row.accepted is False for row in rows),
        start.pending + sum(row.accepted is None for row in rows),
        start.poisoned + sum(row.poisoned for row in rows),
        start.clean + sum(row.clean for row in rows),
        start.silent + sum(row.silent for row in rows),
        start.updates + sum(row.updates for row in rows),
        start.bytes_in + sum(row.bytes_in for row in rows),
        start.bytes_out + sum(row.bytes_out for row in rows),
        start.dropped + sum(row.dropped for row in rows),
        refused,
    )
