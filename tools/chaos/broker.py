"""A Mosquitto that can be killed and started again at the same place, with what it retained or not.

It is the one that ``broker.local`` would start: the shipped configuration, bound to loopback.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from fedjury.broker.local import HOST, private_configuration
from fedjury.broker.mosquitto import find_mosquitto
from fedjury.broker.probe import answers
from fedjury.processes import free_port
from tools.chaos.programs import PATIENCE, ChaosError, Child, be_another

CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x0e\x10\x00\x00"
"""MQTT 3.1.1, clean session, keep-alive an hour, a client id of the broker's choice."""
CONNACK = b"\x20\x02\x00\x00"
DROPPED = b"$SYS/broker/publish/messages/dropped"
SUBSCRIBE = b"\x82%c\x00\x01\x00%c%b\x00" % (len(DROPPED) + 5, len(DROPPED), DROPPED)
"""Packet id 1, one topic at QoS 0."""

COUNTED_EVERY = 1
"""Seconds between two looks of the broker at its own counters."""


class Broker:
    """A broker on a port of its own. ``kill`` it and ``start`` it again as often as you like."""

    def __init__(self, folder: Path, port: int = 0, text: str = "") -> None:
        """Start it, with its files in a folder.

        ``port``: where it listens, any if 0; ``text``: its configuration, if not the usual one.
        """
        program = find_mosquitto()
        if program is None:
            raise ChaosError("no Mosquitto here: `apt install mosquitto`")
        self._folder, self.port = folder, port or free_port()
        self._dropped = 0
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # root's broker becomes another user, and keeps its database here
        file = folder / "mosquitto.conf"
        shipped = text or private_configuration(self.port)
        file.write_text(configuration(shipped, folder), encoding="utf-8")
        self._command = [str(program), "-c", str(file)]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._child = Child(self._folder / "broker.log", be_another, *self._command)
        until = time.monotonic() + PATIENCE
        while not answers(HOST, self.port):
            if self._child.code is not None or time.monotonic() > until:
                raise ChaosError(f"the broker does not start: {self._child.last_words()}")
            time.sleep(0.01)
        self._counter = Counter(self.port)

    def kill(self, *, keep: bool = False) -> None:
        """``kill -9``; ``keep``: what is retained at this moment will be there again."""
        self._dropped += self._counter.count
        database = self._folder / "mosquitto.db"
        if keep:
            database.unlink(missing_ok=True)
            self._child.signal(signal.SIGUSR1)
            until = time.monotonic() + PATIENCE
            while not database.exists() and time.monotonic() < until:
                time.sleep(0.005)
        self._child.kill()
        if not keep:
            database.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop it where it is: connections stand, and nothing moves."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._child.signal(signal.SIGCONT)

    def dropped(self) -> int:
        """Say how many messages it has dropped so far; takes as long as it takes it to count."""
        time.sleep(COUNTED_EVERY + 0.2)
        return self._dropped + self._counter.count


class Counter:
    """Hears what the broker says of the messages that it has dropped, for as long as it lives.

    It says so only when that changes, and what it retained of it is gone after a minute.
    """

    def __init__(self, port: int) -> None:
        self.count = 0
        self._connection = socket.create_connection((HOST, port), PATIENCE)
        self._connection.settimeout(None)
        self._connection.sendall(CONNECT + SUBSCRIBE)
        threading.Thread(target=self._listen, name="dropped", daemon=True).start()

    def _listen(self) -> None:
        heard = b""
        with suppress(OSError), self._connection:
            while more := self._connection.recv(4096):
                heard += more
                for match in re.finditer(re.escape(DROPPED) + rb"(\d+)", heard):
                    self.count = int(match[1])
                heard = heard[-len(DROPPED) - 20 :]


def configuration(shipped: str, folder: Path) -> str:
    """Change what has to be different: it keeps what is retained, and counts every second."""
    changes = {
        r"(?m)^persistence .*$": f"persistence true\npersistence_location {folder}/",
        r"(?m)^sys_interval .*$": f"sys_interval {COUNTED_EVERY}",
    }
    for line, instead in changes.items():
        shipped, result = re.subn(line, instead, shipped)
        if result != 1:
            raise ChaosError(f"mosquitto.conf must have exactly one line like {line}")
    return shipped
