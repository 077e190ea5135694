"""The broker of a cell, Mosquitto with a bridge to the core's, as a child of the cell's actor."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from pathlib import Path

from fedjury import processes
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.processes import User


class EdgeBroker:
    """A Mosquitto of this configuration, which ends with this process.

    Root's Mosquitto would change to another user by itself, and with that forget to do so.
    """

    def __init__(self, configuration: str, log: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fedjury-cell-")
        folder, self._log = Path(self._folder.name), log
        folder.chmod(0o755)  # whoever it runs as must be able to read its configuration
        file = folder / "mosquitto.conf"
        file.write_text(configuration, encoding="utf-8")
        self._command = [str(find_mosquitto() or "mosquitto"), "-c", str(file)]
        self._child = self._start()

    def look(self) -> bool:
        """Start it again if it has ended; returns whether it had."""
        ended = self._child.poll() is not None
        if ended:
            self._child = self._start()
        return ended

    def stop(self) -> None:
        """End it."""
        processes.stop(self._child)
        self._folder.cleanup()

    def _start(self) -> subprocess.Popen[bytes]:
        return processes.start(self._command, self._log, Path(self._folder.name), nobody())


def nobody() -> User | None:
    """Return whom a broker runs as if this is root; None: as whom this runs."""
    if os.geteuid() != 0:
        return None
    found = pwd.getpwnam("nobody")
    return User(found.pw_uid, found.pw_gid)
