"""A machine without any other network than its own, on which tests type commands as people do.

It is a network namespace (unshare, nsenter): the ports that a text names are free, whatever else
runs here. A machine that is ``warm`` forks our programs from a process that has imported what they
need (``support.warm``), instead of starting a Python for each.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.warm import Popen

from fedjury.broker.mosquitto import find_mosquitto

ROOT = Path(__file__).resolve().parents[2]

needs_a_machine = pytest.mark.skipif(
    not (shutil.which("nsenter") and shutil.which("ip") and find_mosquitto())
    or subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode,
    reason="needs to be root on Linux, and mosquitto",
)


OURS = {"python": [sys.executable], "fedjury": [sys.executable, "-m", "fedjury"]}
"""How a warm machine is asked for the programs of ours that people type."""


class Machine:
    """A copy of the project on a machine without any other network than its own."""

    def __init__(self, folder: Path, *, warm: bool = False) -> None:
        self.folder, self.warm = folder / "fedjury", warm
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        for name in filter(None, files):
            if (ROOT / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.folder / name)
        programs = Path(sys.executable).parent  # as "source .venv/bin/activate" has it
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin",
        }
        if not warm:  # as if this copy were the one that is installed
            self.environment["PYTHONPATH"] = str(self.folder)
        self.logs = folder
        self.running: list[tuple[str, subprocess.Popen]] = []
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        time.sleep(0.3)
        self.network = Path(f"/proc/{self.holder.pid}/ns/net").readlink()
        self.end_of(self.start("ip link set lo up"))

    def start(self, command: str, folder: Path | None = None) -> subprocess.Popen:
        """Type a command, in the checkout or another folder; what it prints is in a file."""
        log = (self.logs / f"{len(self.running)}.log").open("w+")
        words = shlex.split(command)
        if self.warm and "pytest" not in words:  # which wants to import what it tests itself
            words[:1] = OURS.get(words[0], words[:1])
        child = Popen(
            words,
            network=self.holder.pid,
            cwd=folder or self.folder,
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        child.log = log
        self.running.append((command, child))
        return child

    def end_of(self, child: subprocess.Popen) -> str:
        """Wait for the end of a command and return what it printed; it must have ended well."""
        try:
            code = child.wait(100)
        except subprocess.TimeoutExpired:
            others = "\n".join(f"{what}:\n{self.said(one)[-600:]}" for what, one in self.running)
            pytest.fail(f"{child.args} does not end; what all have said:\n{others}")
        said = self.said(child)
        assert code == 0, f"{child.args} ended with {code}:\n{said}"
        assert "Traceback" not in said
        return said

    def said(self, child: subprocess.Popen) -> str:
        """Return what a command has printed so far."""
        return Path(child.log.name).read_text(encoding="utf-8", errors="replace")

    def stop(self, *beginnings: str) -> None:
        """End what goes on in other terminals: what begins so."""
        for command, child in self.running:
            if command.startswith(beginnings) and child.poll() is None:
                child.terminate()
                child.wait(20)

    def close(self) -> None:
        """Switch the machine off, with all that runs on it."""
        while there := self.processes():
            for process in there:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
        for _, child in self.running:
            child.wait(20)
            child.log.close()
        self.holder.wait()

    def processes(self) -> list[int]:
        """Return the ids of all processes on it."""
        found = []
        for network in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                if network.readlink() == self.network:
                    found.append(int(network.parts[2]))
        return found
