"""The rounds of a run as people see them, made of records that strangers may have written."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fedjury.monitor import sanitize
from fedjury.monitor.sanitize import NOTHING
from fedjury.protocol.fields import OTHER
from fedjury.protocol.record import RoundRecord

DETECTORS = 8
"""Names of detectors that are told apart."""

SHOWN = 20
"""Flagged agents, and agents in quarantine, that are named."""


def alike(one: RoundRecord, other: RoundRecord) -> bool:
    """Say whether both can be of the same round of the same run."""
    if (one.attempt, one.accepted, one.updates) != (other.attempt, other.accepted, other.updates):
        return False
    first, second = one.model, other.model
    return (first.accuracy, first.metrics) == (second.accuracy, second.metrics)


def heard_in_full(row: RoundRecord) -> bool:
    """Say whether all of the record was heard of, and not only what ``log/history`` says of it."""
    return row.timing.seconds is not None


# ---------------------------------------------------------------- suspects


class Suspects(NamedTuple):
    """Whom the detectors flagged in a round, and who is no longer selected after it."""

    round: int = 0
    most: tuple[tuple[str, float], ...] = ()
    """The most suspected agents and how much, highest first."""
    detectors: Mapping[str, int] = NOTHING
    """Detector -> agents that it suspects most."""
    quarantined: int = 0
    named: tuple[str, ...] = ()
    """The first of those in quarantine."""
    permanent: int = 0
    filtered: int = 0

    @property
    def flagged(self) -> int:
        """How many agents are flagged."""
        return sum(self.detectors.values())


def suspects_of(record: RoundRecord, before: Suspects | None = None) -> Suspects | None:
    """Read what a record says of suspicion; None if nobody looks.

    A detector that flagged somebody ``before`` and now nobody is there with a 0.
    """
    if (result := record.detection) is None:
        return None
    return Suspects(
        record.round,
        _highest(result.suspicion),
        _by_detector(result.flagged.values(), before.detectors if before is not None else ()),
        len(result.quarantined),
        result.quarantined[:SHOWN],
        len(result.permanent),
        result.filtered,
    )


def _highest(scores: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Return the agents with the highest scores, highest first."""
    return tuple(heapq.nsmallest(SHOWN, scores.items(), key=lambda pair: (-pair[1], pair[0])))


def _by_detector(detectors: Iterable[str], known: Iterable[str]) -> dict[str, int]:
    """Count how many agents each detector suspects; only so many are told apart."""
    result = dict.fromkeys(known, 0)
    for text in detectors:
        detector = sanitize.name(text) or OTHER
        if detector not in result and len(result) >= DETECTORS - 1:
            detector = OTHER
        result[detector] = result.get(detector, 0) + 1
    return result


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
    groups: int = 0
    groups_left_out: int = 0


def sum_of(rows: Iterable[RoundRecord], start: Tally = Tally()) -> Tally:  # noqa: B008 - it is immutable
    """Add rounds to a tally; traffic is that of rounds that were heard of in full."""
    rows = list(rows)
    refused = dict(start.refused)
    for row in rows:
        refused = sanitize.added(refused, row.traffic.invalid_messages)
    heard = [row.traffic for row in rows if heard_in_full(row)]
    groups = [row.groups.counts for row in rows if row.groups is not None]
    return Tally(
        start.accepted + sum(row.accepted is True for row in rows),
        start.rejected + sum(row.accepted is False for row in rows),
        start.pending + sum(row.accepted is None for row in rows),
        start.poisoned + sum(row.votes.poisoned for row in rows),
        start.clean + sum(row.votes.clean for row in rows),
        start.silent + sum(row.votes.silent for row in rows),
        start.updates + sum(row.updates for row in rows),
        start.bytes_in + sum(one.bytes_in or 0 for one in heard),
        start.bytes_out + sum(one.bytes_out or 0 for one in heard),
        start.dropped + sum(row.traffic.dropped or 0 for row in rows),
        refused,
        start.groups + sum(one.count for one in groups),
        start.groups_left_out + sum(one.left_out for one in groups),
    )
