"""A run's rounds in short, for who begins to watch in mid-run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from fedjury.protocol.messages import PastLog

COLUMNS = (
    "round",
    "attempt",
    "accepted",
    "why",
    "accuracy",
    "candidate_accuracy",
    "backdoor",
    "poisoned",
    "clean",
    "silent",
    "called",
    "updates",
    "updates_per_second",
    "bytes_in",
    "bytes_out",
)
"""What is said of a round: keys of its record, and of the ``votes`` in it."""

KEPT = 1000
"""Rounds; older ones are forgotten."""


class Series:
    """The last rounds, each as a row of :data:`COLUMNS`, and the run's refusals by reason."""

    def __init__(self, records: Iterable[dict[str, Any]] = ()) -> None:
        self._rows: deque[list[Any]] = deque(maxlen=KEPT)
        self._refused: Counter[str] = Counter()
        for record in records:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Take in the record of a finished round."""
        said = {**record, **(record.get("votes") or {})}
        self._rows.append([said.get(column) for column in COLUMNS])
        self._refused.update(record.get("refused") or {})

    def message(self) -> PastLog:
        """Say all of it."""
        return PastLog(
            {"columns": COLUMNS, "rows": list(self._rows), "refused": dict(self._refused)}
        )
