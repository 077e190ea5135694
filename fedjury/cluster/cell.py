"""A cell's worker: what collects its updates, and what then works on them, in one process."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from fedjury.cluster.fleet import Fleet, FleetPlan, FleetState
from fedjury.cluster.shard import Rows, Worker

STOP = 5.0
"""Seconds that an ingest has to end."""


class Ingest(Protocol):
    """What collects the updates of a cell."""

    def run(self) -> None:
        """Collect until it is stopped."""

    def stop(self) -> None:
        """Let ``run`` end."""

    def rows(self, key: Hashable) -> Rows:
        """Return the rows collected under a key; a LookupError if there are none."""


Making = tuple[Callable[..., Ingest], tuple[Any, ...]]
"""A function that makes an ingest, and what it is given."""


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
        self._thread.join(STOP)

    def _run(self) -> None:
        try:
            self._ingest.run()
        except BaseException:
            traceback.print_exc()
        if not self._stopped:
            os._exit(1)  # a worker that collects nothing must not look alive


class CellParts:
    """What runs of a cell in one process, and so on one machine: its agents, its worker, or both.

    ``ingest``: the function that makes it, and what that is given.
    """

    def __init__(self, fleet: FleetPlan | None, ingest: Making | None) -> None:
        self._fleet = Fleet(fleet) if fleet else None
        self._worker = CellWorker(*ingest) if ingest else None

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker."""
        assert self._worker is not None
        return self._worker.call(method, *arguments)

    def look(self) -> FleetState:
        """Return how the agents are."""
        assert self._fleet is not None
        return self._fleet.look()

    def stop(self) -> None:
        """Let all of it end."""
        if self._fleet is not None:
            self._fleet.stop()
        if self._worker is not None:
            self._worker.stop()
