"""A cluster with Ray on machines of a network of their own, whose run goes on whatever dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from fedjury.aggregator.store import read_records
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.cluster.folder import FleetLine, Folder, State
from fedjury.cluster.known import Known, below
from fedjury.cluster.up import last_line
from fedjury.config.settings import Settings
from fedjury.config.toml import to_toml
from fedjury.protocol.record import RoundRecord
from tools.chaos.harness import Result, stored_in
from tools.chaos.machines import Machines, lacking
from tools.chaos.programs import ChaosError

PORT = 6390
START = 60.0
"""Seconds that a cluster has to begin its run; it takes twelve, and five more a machine."""


def lack() -> str:
    """Return why there can be no such cluster here; empty if there can."""
    if find_spec("ray") is None:
        return "needs Ray (pip install 'fedjury[scale]')"
    return lacking() or ("" if find_mosquitto() else "needs mosquitto")


def says(log: Path, words: bytes) -> bool:
    """Return whether a log has these words."""
    return words in log.read_bytes()


class RayCluster:
    """The programs of a cluster whose cells keep their updates, and where its files are."""

    def __init__(self, machines: Machines, path: Path, settings: Settings, cells: int) -> None:
        self.machines, self.path, self.cells = machines, path, cells
        self.settings = settings
        self.folder = Folder(path / "cluster")

    def start(self) -> None:
        """Start it, and wait until each machine has cells.

        Raises
        ------
        ChaosError
            If it does not start.
        """
        addresses = self.machines.addresses
        (file := self.path / "settings.toml").write_text(to_toml(self.settings), encoding="utf-8")
        run = ("--config", str(file), "--run", self.settings.run.name, "--runs", str(self.path))
        place = ("--host", addresses[0], "--machines", f"{len(addresses)}")
        where = ("--port", f"{PORT}", "--folder", str(self.folder.path))
        cells = ("--cells", f"{self.cells}", "--keep-updates")
        self.up = self._fedjury(0, "up", *run, *place, *where, *cells)
        self.until(self.folder.token.exists, "there is no token")
        for number, address in enumerate(addresses[1:], start=1):
            # One after the other: two at once do not always come up.
            token = ("--token", str(self.folder.token))
            self._fedjury(number, "join", f"{addresses[0]}:{PORT}", "--host", address, *token)
            log = self.path / f"join-{number}.log"
            self.until(partial(says, log, b"takes part"), f"see {log}")
        self.until(lambda: self.places() == {*addresses}, "cells were not placed")

    def until(self, condition: Callable[[], object], why: str, seconds: float = START) -> None:
        """Wait until something holds.

        Raises
        ------
        ChaosError
            If it does not within some seconds, or the cluster has ended.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or self.up.poll() is not None:
                raise ChaosError(f"{why}: {last_line(self.path / 'up-0.log')}")
            time.sleep(0.01)

    def state(self) -> State:
        """Return what is known of the cluster.

        Raises
        ------
        ChaosError
            If nothing is.
        """
        if state := self.folder.read():
            return state
        raise ChaosError("the cluster has ended")

    def fleets(self) -> list[FleetLine]:
        """Return what is known of its cells; nothing before it has begun."""
        state = self.folder.read()
        return [*state.fleets] if state else []

    def places(self) -> set[str]:
        """Return on which machines cells are; none before all of them are at work."""
        fleets = self.fleets()
        at_work = fleets and all(line.state == "running" for line in fleets)
        return {line.machine for line in fleets} if at_work else set()

    def worker(self, line: FleetLine) -> int:
        """Return the process of the actor of a cell: its agents are the child of that."""
        fields = Path(f"/proc/{line.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return int(fields.split()[1])

    def head(self) -> list[Known]:
        """Return the processes of the head of Ray: what was started, and what that has started."""
        [first] = [each for each in self.state().programs if each.name == "ray-head"]
        return [first, *below(first.pid)]

    def reach(self, rounds: int) -> None:
        """Wait until so many are recorded.

        Raises
        ------
        ChaosError
            If they never are.
        """
        self.until(lambda: len(self.records()) >= rounds, f"no {rounds} rounds were done")

    def records(self) -> list[RoundRecord]:
        """Return the rounds so far."""
        with suppress(OSError):
            return read_records(self.path / self.settings.run.name)
        return []

    def finish(self, seconds: float) -> Result:
        """Wait for the end of the run, and say what became of it."""
        deadline = time.monotonic() + seconds
        while self.up.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        models = stored_in(self.path / self.settings.run.name)
        words = last_line(self.path / "up-0.log")
        return Result(self.up.poll(), (), self.records(), models, {}, words, self.settings)

    def _fedjury(self, number: int, *words: str) -> subprocess.Popen[str]:
        """Start a command of the cluster on a machine."""
        log = self.path / f"{words[0]}-{number}.log"
        command = [sys.executable, "-m", "fedjury", "cluster", *words]
        return self.machines.start(number, command, log)
