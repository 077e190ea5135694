"""A machine without any other network than its own, on which tests type commands as people do.

It is a network namespace (unshare, nsenter): the ports that a text names are free, whatever else
runs here.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedjury.broker.mosquitto import find_mosquitto

ROOT = Path(__file__).resolve().parents[2]

needs_a_machine = pytest.mark.skipif(
    not (shutil.which("nsenter") and shutil.which("ip") and find_mosquitto())
    or subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode,
    reason="needs to be root on Linux, and mosquitto",
)


class Machine:
    """A copy of the project on a machine without any other network than its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fedjury"
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
            "PYTHONPATH": str(self.folder),  # as if this copy were the one that is installed
        }
        self.logs = folder
        self.running: list[tuple[str, subprocess.Popen]] = []
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        time.sleep(0.3)
        self.end_of(self.start("ip link set lo up"))

    def start(self, command: str, folder: Path | None = None) -> subprocess.Popen:
        """Type a command, in the checkout or another folder; what it prints is in a file."""
        log = (self.logs / f"{len(self.running)}.log").open("w+")
        inside = ["nsenter", "-t", str(self.holder.pid), "-n"]
        child = subprocess.Popen(
            [*inside, *shlex.split(command)],
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
            pytest.fail(f"{child.args[4:]} does not end; what all have said:\n{others}")
        said = self.said(child)
        assert code == 0, f"{child.args[4:]} ended with {code}:\n{said}"
        assert "Traceback" not in said
        return said

    def said(self, child: subprocess.Popen) -> str:
        """Return what a command has printed so far."""
        return Path(child.log.name).read_text(encoding="utf-8", errors="replace")

    def stop(self, *beginnings: str) -> None:
        """End what goes on in other terminals: what begins so, or everything."""
        for command, child in self.running:
            if command.startswith(beginnings or ("",)) and child.poll() is None:
                child.terminate()
                child.wait(20)

    def close(self) -> None:
        """Switch the machine off."""
        self.stop()
        for _, child in self.running:
            child.log.close()
        self.holder.kill()
        self.holder.wait()
