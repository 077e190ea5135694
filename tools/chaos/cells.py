"""Brokers of cells, as ``fedjury cells`` writes them, whose links to the core can be cut."""

from __future__ import annotations

import re
import time
from pathlib import Path

from fedjury.broker import cell_files
from fedjury.broker.cell_brokers import Place, Plan
from fedjury.broker.cell_files import CELL, CONFIGURATION
from fedjury.broker.local import HOST
from fedjury.processes import free_port
from fedjury.protocol.topics import ROOT
from tools.chaos.broker import Broker
from tools.chaos.programs import ChaosError
from tools.chaos.proxy import Proxy


class CellBrokers:
    """Some cells around a core: a broker for each, and a proxy between it and the core's."""

    def __init__(self, folder: Path, core: int, count: int, *, keep: bool = False) -> None:
        """Start them; ``core``: the port of the core's broker, which runs already.

        ``keep``: updates stay in their cells.
        """
        ports = [free_port() for _ in range(count)]
        places = tuple(Place(HOST, port) for port in ports)
        cell_files.write(Plan(Place(HOST, core), places, ROOT, keep), folder, None)
        self.links = [Proxy(core) for _ in ports]
        self.brokers = [
            Broker(folder / f"at-{number}", port, self._text(folder, number, link.port))
            for number, (port, link) in enumerate(zip(ports, self.links, strict=True), 1)
        ]

    @property
    def ports(self) -> list[int]:
        """Where agents find the brokers of their cells."""
        return [broker.port for broker in self.brokers]

    def down(self, number: int, seconds: float) -> None:
        """Break the link of one of them (from 0), and let nothing through for some seconds."""
        link = self.links[number]
        link.stall()
        link.cut()
        time.sleep(seconds)
        link.flow()

    def dropped(self) -> int:
        """Say how many messages they have thrown away in all."""
        return sum(broker.dropped() for broker in self.brokers)

    def close(self) -> None:
        """End them."""
        for broker in self.brokers:
            broker.kill()
        for link in self.links:
            link.close()

    @staticmethod
    def _text(folder: Path, number: int, port: int) -> str:
        """Return the configuration of a cell's broker, whose bridge goes through a proxy."""
        text = (folder / CELL.format(number) / CONFIGURATION).read_text(encoding="utf-8")
        changed, count = re.subn(r"(?m)^address .*$", f"address {HOST}:{port}", text)
        if not count:
            raise ChaosError("the broker of a cell has no bridge")
        return changed
