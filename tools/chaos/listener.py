"""Who listens: collects what every accepted model was when it was published."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from typing import Any

from fedjury.config.settings import Settings
from fedjury.protocol.messages import BadMessage, Model, Round
from fedjury.protocol.transport.by_url import transport_at
from fedjury.protocol.transport.connection import TransportError
from tools.chaos.sums_heard import HEARD, SumsHeard

WAIT = 0.1


def digest(weights: Any) -> str:
    """Say what a vector is, bit for bit, in few letters."""
    return hashlib.sha256(weights.tobytes()).hexdigest()[:16]


class Listener:
    """A stranger on the broker, on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.models: dict[int, set[str]] = {}
        """Version -> all that was ever published as it."""
        self.round = 0
        """The round that was announced last; 0 before the first."""
        self.sums = SumsHeard()
        """What was heard of secure aggregation."""
        more = HEARD if settings.groups.secure else ()
        broker = settings.broker
        where = f"mqtt://{broker.host}:{broker.port}"
        self._transport = transport_at(where, settings.run.name).open()
        self._transport.join(":ear", *{Model, Round, *more}, presence=False)
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="ear", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._leaving.set()
        self._thread.join()
        self._transport.close()

    def _listen(self) -> None:
        while not self._leaving.is_set():
            with suppress(BadMessage):
                try:
                    heard = self._transport.receive(WAIT)
                except TransportError:
                    return
                if heard is not None:
                    self.sums.hear(heard.message)
                match heard and heard.message:
                    case Model(version, weights):
                        self.models.setdefault(version, set()).add(digest(weights))
                    case Round(number):
                        self.round = number
