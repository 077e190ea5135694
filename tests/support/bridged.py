"""Real brokers of cells, as ``fedjury cells`` writes them, each in its folder."""

from __future__ import annotations

import subprocess
import time
from typing import NamedTuple

from fedjury import processes
from fedjury.broker import cells
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import free_port

HOST = "127.0.0.1"


class Place(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


class Bridged:
    """A core and some cells; ``core`` and ``cells`` (from 1) are where their brokers listen."""

    def __init__(self, folder, count, *words, tls=False, running=None):
        self.folder, self._tls = folder, tls
        ports = [free_port() for _ in range(count + 1)]
        self.core, *rest = [Place(HOST, port) for port in ports]
        self.cells = dict(enumerate(rest, 1))
        edges = [word for place in rest for word in ("--edge", f"{HOST}:{place.port}")]
        flags = ["--count", str(count), "--out", str(folder), "--core", f"{HOST}:{ports[0]}"]
        assert cells.main([*flags, *edges, *words]) == 0
        self._running = {}
        for name in ["core", *(f"cell-{number}" for number in running or self.cells)]:
            self.start(name)

    def place(self, name):
        """Return where a broker listens."""
        return self.core if name == "core" else self.cells[int(name.partition("-")[2])]

    def start(self, name):
        """Start a broker, and wait until it answers."""
        where, place = self.folder / name, self.place(name)
        command = [str(find_mosquitto()), "-c", "mosquitto.conf"]
        self._running[name] = processes.start(command, self.folder / f"{name}.log", where, None)
        until = time.monotonic() + 10
        while not answers(*place, tls=self._tls):
            assert time.monotonic() < until, (self.folder / f"{name}.log").read_text()
            time.sleep(0.02)

    def kill(self, name):
        """``kill -9`` a broker."""
        child = self._running.pop(name)
        child.kill()
        child.wait()

    def close(self):
        """End what still runs."""
        for child in self._running.values():
            try:
                processes.stop(child)
            except subprocess.TimeoutExpired:
                child.kill()
