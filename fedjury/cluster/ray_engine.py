"""Ray as the engine: the only file that imports it.

Ray unpickles what it is sent, and so runs whatever reaches its ports: ``settings`` in
``fedjury.cluster.environment`` gives it a token, and must be in the environment before this file
is imported. ``docs/security.md`` says where its machines may stand.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import exceptions

from fedjury.cluster.cell import CellWorker, Ingest, Place
from fedjury.cluster.engine import NotHeld, WorkerLost
from fedjury.cluster.fleet import Fleet

LARGE = 1 << 16
"""Bytes of an argument from which on it is sent once for all workers."""

SPREAD = {"scheduling_strategy": "SPREAD", "max_restarts": -1, "max_task_retries": 0}
"""Actors on as many machines as there are, started on another when theirs dies. What was asked of
one that died is not asked again: it has forgotten what that was about."""

ROOM = 0.001
"""Share of a core that an actor asks for: all of them must find room on the machines that are
left."""


class Call(NamedTuple):
    """A call that was begun, and of which worker."""

    worker: int
    result: Any


class RayEngine:
    """Workers that are actors: ``fedjury.cluster.engine.Engine``."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = list(actors)
        for worker in range(self.workers):
            self.call(worker, "clear")  # partitions of an aggregator that ended

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._actors)

    def send(self, value: Any) -> Any:
        """Put a large array where each worker gets it once."""
        return ray.put(value) if isinstance(value, np.ndarray) and value.nbytes > LARGE else value

    def call(self, worker: int, method: str, *arguments: Any) -> Call:
        """Begin a call."""
        given = [some.result if isinstance(some, Call) else some for some in arguments]
        return Call(worker, self._actors[worker].call.remote(method, *given))

    def result(self, call: Call) -> Any:
        """Wait for the result of a call."""
        try:
            return ray.get(call.result)
        except exceptions.RayTaskError as why:
            cause = why.cause
            if isinstance(cause, exceptions.RayError):  # of another call that gave an argument
                raise WorkerLost(self._cell(cause, call.worker)) from None
            if isinstance(cause, NotHeld):
                raise WorkerLost(call.worker) from None
            raise cause from None
        except exceptions.RayError as why:
            raise WorkerLost(self._cell(why, call.worker)) from None

    def _cell(self, why: Exception, asked: int) -> int:
        """Return which worker an error of Ray is about, as far as it says so."""
        ids = [actor._actor_id.hex() for actor in self._actors]  # noqa: SLF001
        named = getattr(why, "actor_id", None)
        return ids.index(named) if named in ids else asked


class CellActor(CellWorker):
    """A cell's worker as an actor."""

    def where(self) -> Place:
        """Return where it runs."""
        return here()


class FleetActor(Fleet):
    """A fleet as an actor."""

    def where(self) -> Place:
        """Return where it runs."""
        return here()


def here() -> Place:
    """Return the machine and the process that call this."""
    return Place(ray.util.get_node_ip_address(), os.getpid())


def connect(address: str, machine: str, namespace: str) -> None:
    """Take part in a cluster, from this machine, whose address in it is given.

    ``namespace``: where its actors have their names; one for each run.

    Raises
    ------
    ConnectionError
        If there is none, or the token is not its own.
    """
    try:
        ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=machine,
        )
    except (exceptions.RayError, RuntimeError) as why:
        raise ConnectionError(f"no cluster at {address}: {str(why).splitlines()[0]}") from why


def disconnect() -> None:
    """Leave; actors that this process has started end."""
    ray.shutdown()


def start_cells(ingests: Sequence[tuple[Callable[..., Ingest], tuple[Any, ...]]]) -> list[Any]:
    """Start the workers of cells on all machines.

    ``ingests``: by cell, the function that makes its ingest, and what it is given. They are named
    by their numbers, and live as long as this process takes part.
    """
    actor = ray.remote(CellActor)
    return [
        actor.options(name=f"cell-{number}", num_cpus=ROOM, **SPREAD).remote(make, arguments)
        for number, (make, arguments) in enumerate(ingests)
    ]


def engine(cells: int) -> RayEngine:
    """Return the engine of so many cells' workers, which another process may have started."""
    return RayEngine([ray.get_actor(f"cell-{number}") for number in range(cells)])


def machines() -> list[str]:
    """Return the addresses of the machines that are alive, one for each node."""
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
