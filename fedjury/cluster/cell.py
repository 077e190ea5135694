"""A cell's worker: what collects its updates, and what then works on them, in one process."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from fedjury.cluster.shard import Rows, Worker


class Ingest(Protocol):
    """What collects the updates of a cell."""

    def run(self) -> None:
        """Collect until it is stopped."""

    def stop(self) -> None:
        """Let ``run`` end."""

    def rows(self, key: Hashable) -> Rows:
        """Return the rows collected under a key; a LookupError if there are none."""


class Place(NamedTuple):
    """Where something runs."""

    machine: str
    """Its address in the cluster."""
    pid: int


class CellWorker:
    """A worker and the ingest that fills it. If the ingest fails, the process ends.

    Whoever supervises it then starts another one, and the cell is asked for its updates again.
    """

    def __init__(self, make: Callable[..., Ingest], arguments: tuple[Any, ...]) -> None:
        self._ingest = make(*arguments)
        self._worker = Worker(self._ingest.rows)
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._stopped = False
        self._thread.start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        return getattr(self._worker, method)(*arguments)

    def stop(self) -> None:
        """Stop the ingest, and wait until it has."""
        self._stopped = True
        self._ingest.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._ingest.run()
        except BaseException:
            traceback.print_exc()
        if not self._stopped:
            os._exit(1)  # a worker that collects nothing must not look alive
