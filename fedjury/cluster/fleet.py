"""A part of the agents: ``fedjury spawn --shard i/k`` as a child of the process that watches it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fedjury import processes

GOODBYE = 10.0
"""Seconds that agents have to leave."""

AT_ONCE = 1 << 16
"""Bytes of a log that are told at a time."""


class FleetState(NamedTuple):
    """What is known of a fleet."""

    pid: int
    ended: int | None
    """The exit code if it has ended by itself."""
    restarts: int
    """How many times it was started again here, after an error."""
    log: bytes
    """What it has said since it was asked last."""


class Fleet:
    """Agents in a process of its own, which ends with this one, and is started again if it fails.

    ``arguments``: of ``fedjury spawn``. ``where``: the folder in which it runs, if it is there.
    ``config``: what stands for ``{config}`` in the arguments: a file with this text.
    """

    def __init__(self, arguments: Sequence[str], where: Path, config: str) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="fedjury-fleet-")
        folder = Path(self._own.name)
        file, self._log = folder / "config.toml", folder / "log"
        file.write_text(config, encoding="utf-8")
        given = [str(file) if argument == "{config}" else argument for argument in arguments]
        self._command = [sys.executable, "-m", "fedjury", "spawn", *given]
        self._where = where if where.is_dir() else folder
        self._restarts, self._read = 0, 0
        self._child = self._start()

    def look(self) -> FleetState:
        """Start the agents again if they failed, and return how they are."""
        code = self._child.poll()
        if code:
            self._restarts += 1
            self._child = self._start()
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read(AT_ONCE)
        self._read += len(text)
        return FleetState(self._child.pid, None if code else code, self._restarts, text)

    def stop(self) -> None:
        """Let the agents leave, and end their process."""
        processes.stop(self._child, GOODBYE)

    def _start(self) -> subprocess.Popen[bytes]:
        return processes.start(self._command, self._log, self._where, None)
