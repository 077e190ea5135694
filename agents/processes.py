"""The processes of a fleet: started, listened to, started again when they die, and ended."""

from __future__ import annotations

import multiprocessing as mp
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from protocol.link import LinkError

Tell = Callable[[str, Any], None]
"""How a process reports: ("connected", how many), ("say", a sentence), ("end", an error or "")."""

Work = Callable[[range, Tell, bool], None]
"""What a process does for the agents with these numbers; True: it takes the place of a dead one."""

GOODBYE = 4.0
"""Seconds that processes have to say goodbye."""

DEATHS, WITHIN = 3, 60.0
"""A process that dies so often within so many seconds is not started again."""


class Crew:
    """Processes that share the agents of a fleet.

    They are forked: libraries and data are loaded once, and the memory they take is shared by all.
    Each reports through a pipe of its own, so that one that is killed cannot hold up the others.
    """

    def __init__(self, work: Work, shares: list[range], say: Callable[[str], None]) -> None:
        self.connected = [0] * len(shares)
        """How many agents of each process are connected."""
        self._work, self._shares, self._say = work, shares, say
        self._said: set[str] = set()
        self._ended: dict[int, str] = {}
        self._deaths: dict[int, list[float]] = {place: [] for place in range(len(shares))}
        self._processes: dict[int, BaseProcess] = {}
        self._reports: dict[Connection, int] = {}

    def start(self) -> None:
        """Start all processes."""
        for place in range(len(self._shares)):
            self._fork(place, again=False)

    def watch(self, shown: Callable[[int], None]) -> list[str]:
        """Listen until all have ended; returns their errors. ``shown``: told how many connected.

        Raises
        ------
        LinkError
            If a process dies again and again.
        """
        while len(self._ended) < len(self._shares):
            for report in wait(list(self._reports), timeout=0.5):
                self._hear(report)  # type: ignore[arg-type]  # we wait for nothing else
                shown(sum(self.connected))
            self._revive()
        return [error for error in self._ended.values() if error]

    def stop(self) -> None:
        """Ask all processes to end."""
        for process in self._processes.values():
            process.terminate()

    def close(self) -> None:
        """Wait some seconds until all have ended, then end them by force."""
        deadline = time.monotonic() + GOODBYE
        for process in self._processes.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _fork(self, place: int, *, again: bool) -> None:
        ours, theirs = mp.Pipe(duplex=False)
        process = mp.get_context("fork").Process(
            target=_be, args=(self._work, self._shares[place], theirs, again), daemon=True
        )
        process.start()
        theirs.close()  # so that its end is seen, and nobody who is forked later holds it open
        self._processes[place], self._reports[ours] = process, place

    def _hear(self, report: Connection) -> None:
        place = self._reports[report]
        try:
            kind, value = report.recv()
        except (EOFError, OSError):  # it has ended, or was killed in the middle of a word
            report.close()
            del self._reports[report]
            return
        if kind == "connected":
            self.connected[place] = value
        elif kind == "end":
            self._ended[place] = value
        elif value not in self._said:
            self._said.add(value)
            self._say(value)

    def _revive(self) -> None:
        """Start again who died without having ended; what it had to say is read before."""
        for place, process in list(self._processes.items()):
            silent = place not in self._reports.values() and place not in self._ended
            if not silent or process.is_alive():
                continue
            self.connected[place] = 0
            now, code = time.monotonic(), process.exitcode or 0
            self._deaths[place] = [t for t in self._deaths[place] if now - t < WITHIN] + [now]
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            if len(self._deaths[place]) >= DEATHS:
                raise LinkError(f"an agent process died {DEATHS} times in a row ({how})")
            agents = len(self._shares[place])
            self._say(f"an agent process died ({how}): its {agents:,} agents come again")
            self._fork(place, again=True)


def _be(work: Work, numbers: range, reports: Connection, again: bool) -> None:
    """Be one of the processes."""

    def tell(kind: str, value: Any) -> None:
        with suppress(OSError):  # who listened is gone, which the work finds out by itself
            reports.send((kind, value))

    work(numbers, tell, again)
