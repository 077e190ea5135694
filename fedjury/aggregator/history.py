"""A run's rounds in short, for who begins to watch in mid-run."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from fedjury.protocol.logs import KEPT, RunHistory
from fedjury.protocol.messages import HistoryLog
from fedjury.protocol.record import RoundRecord


class History:
    """The last rounds, of which older ones are forgotten, and the run's refusals by reason."""

    def __init__(self, records: Iterable[RoundRecord] = ()) -> None:
        self._rounds: deque[RoundRecord] = deque(maxlen=KEPT)
        self._refused: Counter[str] = Counter()
        for record in records:
            self.add(record)

    def add(self, record: RoundRecord) -> None:
        """Take in the record of a finished round."""
        self._rounds.append(record.short())
        self._refused.update(record.traffic.invalid_messages)

    def message(self) -> HistoryLog:
        """Say all of it."""
        return HistoryLog(RunHistory(tuple(self._rounds), dict(self._refused)))
