"""Ray as the engine: the only file that imports it.

Ray unpickles what it is sent, and so runs whatever reaches its ports: ``settings`` in
``fedjury.cluster.environment`` gives it a token, and must be in the environment before this file
is imported. ``docs/security.md`` says where its machines may stand.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import ray
from ray import exceptions

from fedjury.cluster.cell import CellParts, Making, Place
from fedjury.cluster.engine import NotHeld, WorkerLost
from fedjury.cluster.fleet import GOODBYE, FleetPlan, FleetState
from fedjury.rules.partitions import ByColumn

LARGE = 1 << 12
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
        array = value.values if isinstance(value, ByColumn) else value
        return ray.put(value) if isinstance(array, np.ndarray) and array.nbytes > LARGE else value

    def call(self, worker: int, method: str, *arguments: Any) -> Call:
        """Begin a call."""
        given = [some.result if isinstance(some, Call) else some for some in arguments]
        try:
            return Call(worker, self._actors[worker].call.remote(method, *given))
        except exceptions.RayError:  # an actor has ended and will not come back
            return Call(worker, None)

    def result(self, call: Call) -> Any:
        """Wait for the result of a call."""
        if call.result is None:
            raise WorkerLost(call.worker)
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


class CellActor(CellParts):
    """What runs of a cell, as an actor."""

    def where(self) -> Place:
        """Return where it runs."""
        return here()

    def report(self) -> tuple[Place, FleetState]:
        """Return where it runs, and how its agents are."""
        return here(), self.look()


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
    before = signal.getsignal(signal.SIGTERM)
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
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # Ray has put one of its own there


def disconnect() -> None:
    """Leave; actors that this process has started end."""
    ray.shutdown()


def start_cells(cells: Sequence[tuple[FleetPlan | None, Making | None]]) -> list[Any]:
    """Start what runs of each cell, on all machines.

    They are named by their numbers, from 1, and live as long as this process takes part.
    """
    actor = ray.remote(CellActor)
    return [
        actor.options(name=name_of(number), num_cpus=ROOM, **SPREAD).remote(*parts)
        for number, parts in enumerate(cells, start=1)
    ]


def name_of(cell: int) -> str:
    """Return what a cell's actor is called."""
    return f"cell-{cell}"


def engine(cells: int) -> RayEngine:
    """Return the engine of so many cells' workers, which another process has started.

    Raises
    ------
    WorkerLost
        If one has not been started yet.
    """
    actors = []
    for cell in range(1, cells + 1):
        try:
            actors.append(ray.get_actor(name_of(cell)))
        except ValueError:
            raise WorkerLost(cell - 1) from None
    return RayEngine(actors)


class Cells:
    """The cells of a cluster, as those see them who look after their agents."""

    def __init__(self, plans: Sequence[tuple[FleetPlan, Making | None]]) -> None:
        actors = start_cells(plans)
        self._actors = {name_of(cell): actor for cell, actor in enumerate(actors, start=1)}
        self._asked: dict[str, Any] = {}  # of each one question at a time

    @property
    def names(self) -> list[str]:
        """What they are called."""
        return list(self._actors)

    def look(self, seconds: float) -> dict[str, tuple[Place, FleetState] | None]:
        """Return how those are that say so within some seconds; None of one whose machine died."""
        for name, actor in self._actors.items():
            if name not in self._asked:
                self._asked[name] = actor.report.remote()
        asked = list(self._asked.values())
        done = set(ray.wait(asked, num_returns=len(asked), timeout=seconds)[0])
        ready = [name for name, question in self._asked.items() if question in done]
        return {name: self._answer(self._asked.pop(name)) for name in ready}

    def stop(self) -> None:
        """Let all agents leave."""
        leaving = [actor.stop.remote() for actor in self._actors.values()]
        ray.wait(leaving, num_returns=len(leaving), timeout=GOODBYE + 2)

    def _answer(self, question: Any) -> tuple[Place, FleetState] | None:
        try:
            place, state = ray.get(question)
        except exceptions.RayActorError as why:
            if why.actor_init_failed:
                raise
            return None
        return place, state


def end(actors: Sequence[Any]) -> None:
    """End actors permanently; their names can be given again."""
    ray.get([actor.stop.remote() for actor in actors])
    for actor in actors:
        ray.kill(actor)


def places(actors: Sequence[Any]) -> list[Place]:
    """Return where the workers of cells run."""
    found: list[Place] = ray.get([actor.where.remote() for actor in actors])
    return found


def machines() -> list[str]:
    """Return the addresses of the machines that are alive, one for each node."""
    return [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
