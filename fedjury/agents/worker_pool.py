"""The processes of a fleet: started, listened to, started again when they die, and ended."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from fedjury import processes
from fedjury.processes import death
from fedjury.protocol.transport.connection import TransportError
from fedjury.protocol.transport.once_only import Outside

Send = Callable[[str, Any], None]
"""How a process reports: ("connected", how many), ("outside", who is not let in -> why), ("begun",
True) once its agents are in the run, ("say", a sentence), ("end", an error or "")."""


class Worker(NamedTuple):
    """What a process is to do."""

    numbers: range
    """Of its agents."""
    send: Send
    stopping: Callable[[], bool]
    """Whether it is to end: it was told to, or who started it is gone."""
    again: bool = False
    """Whether it takes the place of one that died."""
    begun: bool = False
    """Whether agents of the fleet have been in the run already."""


Work = Callable[[Worker], None]
"""What a process does."""

GOODBYE = 4.0
"""Seconds that processes have to say goodbye."""

DEATHS, WITHIN = 3, 60.0
"""A process that dies so often within so many seconds is not started again."""


class WorkerPool:
    """Processes that share the agents of a fleet.

    They are forked: libraries and data are loaded once, and the memory they take is shared by all;
    or spawned afresh, where they use a GPU, which does not survive a fork. Each
    reports through a pipe of its own, so that one that is killed cannot hold up the others.
    """

    def __init__(
        self,
        work: Work,
        shares: list[range] | dict[int, range],
        say: Callable[[str], None],
        *,
        fresh: bool = False,
    ) -> None:
        """``shares``: the numbers of the agents of each process, by its place.

        ``fresh``: the processes are spawned, and ``work`` is pickled.
        """
        self._shares = shares if isinstance(shares, dict) else dict(enumerate(shares))
        self._connected = dict.fromkeys(self._shares, 0)
        self._work, self._say, self._fresh = work, say, fresh
        self._said: set[str] = set()
        self._outside = Outside(say)
        self._begun = False
        self._ended: dict[int, str] = {}
        """Place of a process -> the error with which it ended, or nothing."""
        self._deaths: dict[int, list[float]] = {place: [] for place in self._shares}
        self.processes: dict[int, BaseProcess] = {}
        self._reports: dict[Connection, int] = {}

    @property
    def connected(self) -> list[int]:
        """How many agents of each process are connected."""
        return list(self._connected.values())

    @property
    def done(self) -> bool:
        """Whether a process has come to the end of the run."""
        return "" in self._ended.values()

    def start(self) -> None:
        """Start all processes."""
        for place in self._shares:
            self._fork(place, again=False)

    def add(self, place: int, numbers: range) -> None:
        """Start one more process."""
        self._shares[place], self._connected[place], self._deaths[place] = numbers, 0, []
        self._fork(place, again=False)

    def drop(self, place: int) -> None:
        """End a process, whose agents say goodbye, and forget it."""
        process = self.processes.pop(place)
        process.terminate()
        processes.end([process], GOODBYE, ask=False)
        for report in [report for report, of in self._reports.items() if of == place]:
            report.close()
            del self._reports[report]
        for kept in (self._shares, self._connected, self._deaths):
            del kept[place]
        self._ended.pop(place, None)
        self._outside.note(place, {})

    def watch(
        self, shown: Callable[[int], None], tend: Callable[[], bool] = lambda: True
    ) -> list[str]:
        """Listen until all have ended; returns their errors. ``shown``: told how many connected.

        ``tend``: called again and again; it may add and drop processes. False: that is all.

        Raises
        ------
        TransportError
            If a process dies again and again.
        """
        while len(self._ended) < len(self._shares) or not self._shares:
            for report in wait(list(self._reports), timeout=0.5):
                self._on_message(report)  # type: ignore[arg-type]  # we wait for nothing else
                shown(sum(self.connected))
            self._outside.look(sum(map(len, self._shares.values())))
            self._revive()
            if not tend():
                break
            if not self._reports:
                time.sleep(0.5)
        return [error for error in self._ended.values() if error]

    def stop(self) -> None:
        """Ask all processes to end."""
        for process in self.processes.values():
            process.terminate()

    def close(self) -> None:
        """Wait some seconds until all have ended, then end them by force."""
        processes.end(self.processes.values(), GOODBYE, ask=False)

    def _fork(self, place: int, *, again: bool) -> None:
        ours, theirs = mp.Pipe(duplex=False)
        start = self._shares[place], again, self._begun, os.getpid()
        process = processes.fork(_be, self._work, theirs, *start, daemon=True, fresh=self._fresh)
        theirs.close()  # so that its end is seen, and nobody who is forked later holds it open
        self.processes[place], self._reports[ours] = process, place

    def _on_message(self, report: Connection) -> None:
        place = self._reports[report]
        try:
            kind, value = report.recv()
        except (EOFError, OSError):  # it has ended, or was killed in the middle of a word
            report.close()
            del self._reports[report]
            return
        if kind == "connected":
            self._connected[place] = value
        elif kind == "outside":
            self._outside.note(place, value)
        elif kind == "begun":
            self._begun = True
        elif kind == "end":
            self._end(place, value)
        elif value not in self._said:
            self._said.add(value)
            self._say(value)

    def _end(self, place: int, error: str) -> None:
        """Note that a process has ended. If its run is done, so is everybody's."""
        self._ended[place] = error
        rest = [p for p in self.processes if p not in self._ended]
        if error and rest:
            self._say(f"an agent process ended: {error}")
        for other in rest:
            if not error and self._deaths[other]:  # it may have come back too late to hear of that
                self.processes[other].terminate()

    def _revive(self) -> None:
        """Start again who died without having ended; what it had to say is read before."""
        for place, process in list(self.processes.items()):
            silent = place not in self._reports.values() and place not in self._ended
            if not silent or process.is_alive():
                continue
            self._connected[place] = 0
            self._outside.note(place, {})
            if self.done:
                self._end(place, "")
                continue
            now, code = time.monotonic(), process.exitcode or 0
            self._deaths[place] = [t for t in self._deaths[place] if now - t < WITHIN] + [now]
            how = death(code)
            if len(self._deaths[place]) >= DEATHS:
                raise TransportError(f"an agent process died {DEATHS} times in a row ({how})")
            agents = len(self._shares[place])
            self._say(f"an agent process died ({how}): its {agents:,} agents are started again")
            self._fork(place, again=True)


def _be(
    work: Work, reports: Connection, numbers: range, again: bool, begun: bool, parent: int
) -> None:
    """Be one of the processes."""
    stop: list[int] = []
    for name in processes.ENDING:
        signal.signal(name, lambda number, _: stop.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, processes.ENDING)

    def stopping() -> bool:
        return bool(stop) or os.getppid() != parent

    def send(kind: str, value: Any) -> None:
        with suppress(OSError):  # who listened is gone, which the work finds out by itself
            reports.send((kind, value))

    work(Worker(numbers, send, stopping, again, begun))
