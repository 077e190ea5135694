"""The workers of a run's cells on Ray, to which a process connects when it first needs them."""

from __future__ import annotations

from typing import Any

from fedjury.cluster.engine import Engine, WorkerLost


class LazyEngine:
    """Workers that another process has started: ``fedjury.cluster.engine.Engine``.

    After one was lost they are looked for again: all of them may be others by then.
    """

    def __init__(self, address: str, run: str, workers: int) -> None:
        """``address``: of Ray's head, on this machine."""
        self._address, self._run, self._workers = address, run, workers
        self._engine: Engine | None = None
        self._connected = False

    @property
    def workers(self) -> int:
        """How many there are."""
        return self._workers

    def send(self, value: Any) -> Any:
        """Return what stands for a value in calls."""
        return self._found().send(value)

    def call(self, worker: int, method: str, *arguments: Any) -> Any:
        """Begin a call."""
        return self._found().call(worker, method, *arguments)

    def result(self, call: Any) -> Any:
        """Wait for the result of a call."""
        try:
            return self._found().result(call)
        except WorkerLost:
            self._engine = None
            raise

    def _found(self) -> Engine:
        from fedjury.cluster import ray_engine  # noqa: PLC0415 - an extra, needed here only

        if not self._connected:
            machine, _, _ = self._address.rpartition(":")
            try:
                ray_engine.connect(self._address, machine, self._run)
            except ConnectionError as why:
                raise WorkerLost(0, str(why)) from why
            self._connected = True
        if self._engine is None:
            self._engine = ray_engine.engine(self._workers)
        return self._engine
