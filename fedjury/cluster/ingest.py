"""The ingest worker of a cell, as a part of its actor: it connects to the broker beside it."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from pathlib import Path

from fedjury.cells.at_broker import found, worker_at
from fedjury.cells.worker import IngestWorker, Place
from fedjury.cluster.shard import Rows
from fedjury.config.sections import Broker


class CellIngest:
    """Serves a cell of a run as soon as its broker is there: ``fedjury.cluster.cell.Ingest``."""

    def __init__(self, cell: int, broker: Broker, run: str, folder: Path | None = None) -> None:
        """``folder``: where updates are kept that memory is too small for; None: in memory."""
        self._place, self._broker, self._run = Place(cell, folder), broker, run
        self._stopped = threading.Event()
        self._worker: IngestWorker | None = None

    def run(self) -> None:
        """Wait for the broker, and serve the cell until it is stopped."""
        address = found(self._broker, self._place.cell, print, self._stopped.is_set)
        if self._stopped.is_set():
            return
        self._worker = worker_at(address, self._run, self._place)
        if not self._stopped.is_set():
            self._worker.run()

    def stop(self) -> None:
        """Let ``run`` end."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop()

    def rows(self, key: Hashable) -> Rows:
        """Return the updates of an attempt, (round, attempt).

        Raises
        ------
        LookupError
            If they are not kept.
        """
        if self._worker is None:
            raise LookupError("the cell's broker has not answered yet")
        return self._worker.rows(key)
