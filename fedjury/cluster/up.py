"""A cluster is started, looked after until its run is done, and stopped: ``fedjury cluster up``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedjury import processes
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.cluster import environment, ray_nodes, supervise
from fedjury.cluster.edge_broker import nobody
from fedjury.cluster.fleet import FAILED, GOODBYE
from fedjury.cluster.folder import ClusterError, Folder, State
from fedjury.cluster.known import Descendants, Known, alive, known
from fedjury.cluster.progress import line_of
from fedjury.processes import User
from fedjury.protocol.topics import ROOT

Say = Callable[[str], None]

START = 60.0
"""Seconds that a program has to be ready; Ray takes 3 to 13."""

EVERY, NOTED = 0.2, 2.0
"""Seconds between two looks at the programs, and between two writings of the state."""

AGAIN, WITHIN = 5, 60.0
"""A program that ends more often than so many times within so many seconds is not started again."""


@dataclass(frozen=True)
class CellPlan:
    """What a cell is to be."""

    address: str
    """Where its agents find a broker."""
    broker: str = ""
    """Configuration of a broker beside them; empty: it is there already."""


@dataclass(frozen=True)
class Plan:
    """What a cluster is to be."""

    folder: Folder
    run: str
    settings: str
    """Of the run, as TOML."""
    cells: Sequence[CellPlan]
    broker: str
    """The aggregator's: the core's, or one for all."""
    host: str
    port: int
    nodes: int = 0
    """Nodes besides the head on this machine."""
    machines: int = 1
    """How many must take part before the fleets are placed."""
    address: str = ""
    """A Ray that is there already; empty: one of our own."""
    token: Path | None = None
    """The file with its token; None: a new one."""
    core: str = ""
    """Configuration of the core's broker; empty: it is there already."""
    root: str = ROOT
    """Topic below which runs are."""
    keep: bool = False
    """Updates stay in their cells, each with an ingest worker."""
    ray: dict[str, object] = field(default_factory=dict)
    """Options of ``ray start``."""


@dataclass
class Program:
    """A program of a cluster: how it is started, and its process."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[bytes], bool] = lambda _: True
    """Whether it can be used, by what it has said so far."""
    user: User | None = None
    """As whom it runs if this is root."""
    child: subprocess.Popen[bytes] | None = None
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=AGAIN))

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises
        ------
        ClusterError
            If it is not, or had to be started too often.
        """
        now = time.monotonic()
        if len(self.starts) == AGAIN and now - self.starts[0] < WITHIN:
            raise ClusterError(f"{self.name} ended {AGAIN} times within a minute; see {self.log}")
        self.starts.append(now)
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.child = processes.start(self.command, self.log, Path.cwd(), self.user)
        while not self.ready(self.log.read_bytes()[seen:]):
            if self.child.poll() is not None:
                raise ClusterError(f"{self.name} did not start: {last_line(self.log)}")
            if time.monotonic() - now > START:
                raise ClusterError(f"{self.name} was not ready within {START:.0f} s; {self.log}")
            time.sleep(0.05)

    @property
    def ended(self) -> int | None:
        """The exit code; None while it runs."""
        assert self.child is not None
        return self.child.poll()

    def stop(self, seconds: float) -> None:
        """End it, if it was started."""
        if self.child is not None:
            processes.stop(self.child, seconds)


class Cluster:
    """The programs of a cluster on this machine."""

    def __init__(self, plan: Plan, say: Say, show: Say) -> None:
        """``say``: prints a line that stays. ``show``: the line that changes."""
        self.plan, self._say, self._show = plan, say, show
        self._own = ray_nodes.own_folder()
        self._programs: list[Program] = []  # in the order in which they are started
        self._moves: dict[str, int] = {}
        self._noted = 0.0
        self._descendants = Descendants()
        self.address = plan.address or f"{plan.host}:{plan.port}"

    def start(self) -> None:
        """Start all programs, one after the other."""
        plan, logs = self.plan, self.plan.folder.logs
        own, options = self._own, {"num_cpus": os.cpu_count() or 1} | plan.ray
        if not plan.address:
            self._start("ray-head", ray_nodes.head(plan.host, plan.port, own, options))
        for number in range(1, plan.nodes + 1):
            command = ray_nodes.node(plan.host, self.address, own, options)
            self._start(f"ray-node-{number}", command)
        if plan.core:
            (folder := self._own / "core").mkdir(mode=0o755)
            (folder / "mosquitto.conf").write_text(plan.core, encoding="utf-8")
            self._own.chmod(0o755)
            command = [str(find_mosquitto() or "mosquitto"), "-c", str(folder / "mosquitto.conf")]
            self._run(Program("broker", command, logs / "broker.log", self._answers, nobody()))
        self._plan()
        command = [sys.executable, "-m", supervise.__name__, str(plan.folder.path.resolve())]
        self._run(Program("supervisor", command, logs / "supervisor.log"))
        command = [*fedjury("serve"), f"--config={plan.folder.config}", f"--broker={plan.broker}"]
        self._run(Program("aggregator", command, logs / "aggregator.log"))

    def watch(self) -> None:
        """Look after the programs until the run is done.

        Raises
        ------
        ClusterError
            If one cannot go on.
        """
        while True:
            for program in self._programs:
                if program.ended is not None and self._is_over(program):
                    self._note(done=True)
                    return
            if time.monotonic() - self._noted > NOTED:
                self._note()
            time.sleep(EVERY)

    def stop(self) -> None:
        """End all programs, the last first, and what is left of those that they had started."""
        try:
            for program in reversed(self._programs):
                program.stop(2 * GOODBYE if program.name == "supervisor" else GOODBYE)
        finally:  # whoever asks twice does not want to wait
            self._descendants.end(2.0)
            ray_nodes.keep_logs(self._own, self.plan.folder.logs)
            self.plan.folder.forget()

    def started(self) -> tuple[list[Known], list[Known]]:
        """Return the programs, and all that they have started."""
        names = {each.child.pid: each.name for each in self._programs if each.child}
        programs, others = [], []
        for process in self._descendants.there():
            if name := names.get(process.pid):
                programs.append(process._replace(name=name))
            else:
                others.append(process)
        return programs, others

    def _start(self, name: str, command: Sequence[str]) -> None:
        self._say(f"starting {name}")
        log = self.plan.folder.logs / f"{name}.log"
        self._run(Program(name, command, log, ray_nodes.started))

    def _answers(self, _: bytes) -> bool:
        """Return whether the core's broker takes connections."""
        host, _colon, port = self.plan.broker.rpartition(":")
        return answers(host, int(port))

    def _run(self, program: Program) -> None:
        self._programs.append(program)
        program.start()
        self._note()

    def _plan(self) -> None:
        """Write what the supervisor is to do."""
        plan, count = self.plan, len(self.plan.cells)
        cells = [
            {
                "number": number,
                "arguments": [
                    *("--config", "{config}", f"--broker={cell.address}"),
                    *("--shard", f"{number}/{count}"),
                ],
                "broker": cell.broker,
                "address": cell.address,
                "ingest": plan.keep,
            }
            for number, cell in enumerate(plan.cells, start=1)
        ]
        told = {"token": str(plan.token or plan.folder.token), "address": self.address}
        told |= {"host": plan.host, "run": plan.run, "root": plan.root, "where": str(Path.cwd())}
        text = json.dumps(told | {"cells": cells, "machines": plan.machines})
        plan.folder.plan.write_text(text, encoding="utf-8")

    def _is_over(self, program: Program) -> bool:
        """Start a program again that has ended, unless the run is over."""
        code, log = program.ended, program.log
        assert code is not None
        if program.name == "aggregator" and code == 0:
            return True
        if program.name == "supervisor" and code in {0, FAILED}:
            if code == 0:  # the agents heard of the end first
                return self._wait_for("aggregator")
            raise ClusterError(self._failed())
        if code == FAILED:
            raise ClusterError(f"{program.name} stopped: {last_line(log)}")
        self._say(f"{program.name} ended ({processes.death(code)}): it is started again")
        program.start()
        if program.name == "ray-head":  # its actors are gone, and so is who asked for them
            for other in self._programs:
                users = other.name == "aggregator" and self.plan.keep
                if users or other.name == "supervisor" or other.name.startswith("ray-node"):
                    other.stop(GOODBYE)
                    other.start()
        return False

    def _wait_for(self, name: str) -> bool:
        [program] = [each for each in self._programs if each.name == name]
        deadline = time.monotonic() + START
        while program.ended is None and time.monotonic() < deadline:
            time.sleep(EVERY)
        return program.ended == 0

    def _failed(self) -> str:
        """Return why the fleets could not go on."""
        fleets, _ = supervise.read(self.plan.folder)
        for line in fleets:
            if line.state == "failed":
                return (
                    f"{line.name} stopped: {last_line(self.plan.folder.logs / f'{line.name}.log')}"
                )
        return f"the supervisor stopped: {last_line(self.plan.folder.logs / 'supervisor.log')}"

    def _note(self, *, done: bool = False) -> None:
        """Write the state, and tell of it."""
        plan = self.plan
        fleets, nodes = supervise.read(plan.folder)
        for line in fleets:
            if line.moves != self._moves.get(line.name, 0):
                self._say(f"{line.name} runs on {line.machine} now")
            self._moves[line.name] = line.moves
        progress = last_line(plan.folder.logs / "aggregator.log")
        me = known("cluster up", os.getpid())
        assert me is not None
        programs, others = self.started()
        state = State(
            *(me, plan.run, self.address, plan.broker, str(self._own)),
            *(programs, others, fleets, nodes, progress),
        )
        plan.folder.write(state)
        self._noted = time.monotonic()
        if not done:
            self._show(line_of(state))


def up(plan: Plan, say: Say, show: Say) -> None:
    """Run a cluster until its run is done.

    Raises
    ------
    ClusterError
        If it cannot be started, or cannot go on.
    """
    ray_nodes.needed()
    folder = plan.folder
    state = folder.read()
    if state and alive(state.up):
        raise ClusterError(
            f"a cluster of {folder.path} is running (process {state.up.pid}): fedjury cluster down"
        )
    if state and (left := [process for process in state.processes if alive(process)]):
        raise ClusterError(
            f"{len(left)} processes of a cluster of {folder.path} are left: fedjury cluster down"
        )
    if state and state.own:  # of a cluster that was killed
        ray_nodes.remove(Path(state.own))
    folder.forget()
    folder.make()
    if plan.token is None:
        environment.new_token(folder.token)
    folder.config.write_text(plan.settings, encoding="utf-8")
    os.environ.update(environment.settings((plan.token or folder.token).resolve()))
    cluster = Cluster(plan, say, show)
    try:
        cluster.start()
        cluster.watch()
    finally:
        show("")
        say("stopping the cluster")
        cluster.stop()


def fedjury(command: str) -> list[str]:
    """Return how to start a program of ours."""
    return [sys.executable, "-m", "fedjury", command]


def last_line(log: Path) -> str:
    """Return the last line of a log that says anything."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
