"""The agents of a cell: ``fedjury spawn --shard i/k`` as a child of the process that watches it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fedjury import processes
from fedjury.cluster.edge_broker import EdgeBroker

GOODBYE = 10.0
"""Seconds that agents have to leave."""

FAILED = 2
"""Exit code of a program that people must help: it would only fail again."""

AT_ONCE = 1 << 16
"""Bytes of a log that are told at a time."""


class FleetState(NamedTuple):
    """What is known of a fleet."""

    pid: int
    ended: int | None
    """The exit code if it has ended, and is not started again."""
    restarts: int
    """How many times it, or its broker, was started again here, after an error."""
    log: bytes
    """What it has said since it was asked last."""


@dataclass(frozen=True)
class FleetPlan:
    """What a fleet is to be."""

    arguments: Sequence[str]
    """Of ``fedjury spawn``; {config} stands for a file with the settings."""
    where: str
    """The folder in which it runs, if it is there."""
    config: str
    """Settings, as TOML."""
    broker: str = ""
    """Configuration of a Mosquitto beside it, for these agents; empty: none."""


class Fleet:
    """Agents in a process that ends with this one, and is started again if it fails."""

    def __init__(self, plan: FleetPlan) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="fedjury-fleet-")
        folder = Path(self._own.name)
        file, self._log = folder / "config.toml", folder / "log"
        file.write_text(plan.config, encoding="utf-8")
        given = [str(file) if argument == "{config}" else argument for argument in plan.arguments]
        self._command = [sys.executable, "-m", "fedjury", "spawn", *given]
        self._where = Path(plan.where) if Path(plan.where).is_dir() else folder
        self._restarts, self._read = 0, 0
        self._broker = EdgeBroker(plan.broker, self._log) if plan.broker else None
        self._child = self._start()

    def look(self) -> FleetState:
        """Start the agents again if they failed, and their broker, and return how they are."""
        code = self._child.poll()
        if self._broker is not None and self._broker.look():
            self._restarts += 1
        if code not in {None, 0, FAILED}:
            self._restarts += 1
            self._child = self._start()
            code = None
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read(AT_ONCE)
        self._read += len(text)
        return FleetState(self._child.pid, code, self._restarts, text)

    def stop(self) -> None:
        """Let the agents leave, and end their process and their broker."""
        processes.stop(self._child, GOODBYE)
        if self._broker is not None:
            self._broker.stop()
        self._own.cleanup()

    def _start(self) -> subprocess.Popen[bytes]:
        return processes.start(self._command, self._log, self._where, None)
