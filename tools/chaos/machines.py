"""Machines of a network of their own: network namespaces, side by side on a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

ROOT = Path(__file__).resolve().parents[2]

NETWORK = "10.77.0"

MOST = 100
"""Times that processes are looked for until a machine has none."""


def lacking() -> str:
    """Return why there can be no machines here; empty if there can."""
    if not shutil.which("ip"):
        return "needs the program ip (apt install iproute2)"
    name = f"fjry{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return "needs to be root on Linux, for network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


class Machines:
    """So many machines; a context manager that leaves nothing behind.

    Their temporary files are in a folder of their own, with a short path, as sockets are in it.
    """

    def __init__(self, count: int) -> None:
        self.names = [f"fj{os.getpid()}-{number}" for number in range(count)]
        self.addresses = [f"{NETWORK}.{number + 1}" for number in range(count)]
        self._started: list[subprocess.Popen[str]] = []
        self._temporary = Path()

    def __enter__(self) -> Self:
        self._temporary = Path(tempfile.mkdtemp(prefix="fjm-"))
        self._temporary.chmod(0o755)  # root's brokers become another user
        for number, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
            device = "eth0" if number else "bridge"
            if number:
                first = ("link", "add", f"to{number}", "type", "veth", "peer", "name", device)
                ip("-n", self.names[0], *first, "netns", name)
                ip("-n", self.names[0], "link", "set", f"to{number}", "master", "bridge", "up")
            else:
                ip("-n", name, "link", "add", device, "type", "bridge")
            ip("-n", name, "address", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for number, name in enumerate(self.names):
            self.kill(number)
            subprocess.run(["ip", "netns", "del", name], check=False)
        for program in self._started:
            program.wait()
            for stream in (program.stdin, program.stdout):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def start(
        self, number: int, command: Sequence[object], log: Path, **streams: int | IO[str]
    ) -> subprocess.Popen[str]:
        """Start a program there; what it says, but for what ``streams`` takes, goes into a log."""
        own = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TMPDIR": str(self._temporary)}
        with log.open("ab") as output:
            usual: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output}
            program = subprocess.Popen(
                ["ip", "netns", "exec", self.names[number], *map(str, command)],
                cwd=ROOT,
                env=os.environ | own,
                text=True,
                **(usual | {"stderr": output} | streams),
            )
        self._started.append(program)
        return program

    def processes(self, number: int) -> list[int]:
        """Return the processes there."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[number]], check=False, capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def kill(self, number: int) -> None:
        """Let a machine die: its cable goes first, so that nobody hears of it."""
        if number:
            first = ["ip", "-n", self.names[0], "link", "set", f"to{number}", "down"]
            subprocess.run(first, check=False, capture_output=True)
        for _ in range(MOST):
            if not (processes := self.processes(number)):
                return
            for pid in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)  # one may just have started another


def ip(*words: str) -> None:
    """Change the network."""
    subprocess.run(["ip", *words], check=True, capture_output=True)
