"""Machines of a network of their own: network namespaces, side by side on a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NETWORK = "10.77.0"


def lacking():
    """Return why there can be no machines here; empty if there can."""
    if not shutil.which("ip"):
        return "needs the program ip (apt install iproute2)"
    name = f"fjry{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        return "needs to be root on Linux, for network namespaces"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


class Machines:
    """So many machines; a context manager that leaves nothing behind."""

    def __init__(self, count):
        self.names = [f"fj{os.getpid()}-{number}" for number in range(count)]
        self.addresses = [f"{NETWORK}.{number + 1}" for number in range(count)]
        self.started = []

    def __enter__(self):
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

    def __exit__(self, *_):
        for number, name in enumerate(self.names):
            self.kill(number)
            subprocess.run(["ip", "netns", "del", name], check=False)
        for program in self.started:
            program.wait()
            for stream in (program.stdin, program.stdout):
                if stream is not None:
                    stream.close()

    def start(self, number, command, log, **streams):
        """Start a program there; what it says, but for what ``streams`` takes, goes into a log."""
        with log.open("ab") as output:
            streams = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output} | streams
            program = subprocess.Popen(
                ["ip", "netns", "exec", self.names[number], *map(str, command)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
                text=True,
                **streams,
            )
        self.started.append(program)
        return program

    def processes(self, number):
        """Return the processes there."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[number]], check=False, capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]

    def kill(self, number):
        """Let a machine die: its cable goes first, so that nobody hears of it."""
        if number:
            first = ["ip", "-n", self.names[0], "link", "set", f"to{number}", "down"]
            subprocess.run(first, check=False, capture_output=True)
        for pid in self.processes(number):
            os.kill(pid, signal.SIGKILL)


def ip(*words):
    """Change the network."""
    subprocess.run(["ip", *words], check=True, capture_output=True)
