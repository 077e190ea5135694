"""The real programs, each with its secrets, on a broker that knows who is enrolled."""

from __future__ import annotations

import contextlib

from support.network import Programs
from support.strangers import House

from fedjury.broker import enrol
from fedjury.broker.local import local_broker


class Guarded(Programs):
    """The real programs, each with its secrets, on a broker that knows who is enrolled."""

    def __init__(self, folder, *words):
        self.secrets = folder / "secrets"
        enrol.main([*words, "--folder", str(self.secrets)])
        self.folder, self._broker = folder, contextlib.ExitStack()
        super().__init__(folder, self._start_broker(0))
        self.house = House(self.address, self.secrets)

    def _start_broker(self, port):
        return self._broker.enter_context(
            local_broker(
                "mosquitto",
                say=lambda _: None,
                log=self.folder / "broker.log",
                port=port,
                secrets=self.secrets,
            )
        )

    def restart_broker(self):
        """Stop the broker and start it again, where it was."""
        self._broker.close()
        self._start_broker(self.address.port)

    def aggregator(self, *more):
        """Start the aggregator of the run."""
        return super().aggregator("--secrets", str(self.secrets), *more)

    def agents(self, *more):
        """Start the agents of the run."""
        return super().agents("--secrets", str(self.secrets), *more)

    def kill(self):
        """End what still runs."""
        super().kill()
        self._broker.close()


@contextlib.contextmanager
def guarded(folder, *words):
    """Enrol as the words say, start a broker, and the programs on it as the caller wants."""
    programs = Guarded(folder, *words)
    try:
        yield programs
    finally:
        programs.kill()
