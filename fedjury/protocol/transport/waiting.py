"""Waiting for a broker that is not there yet: devices start before their network does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fedjury.protocol.transport.connection import BrokerAway
from fedjury.protocol.transport.reconnect import ATTEMPTS, backoff

T = TypeVar("T")

STEP = 0.1
"""Seconds between two looks whether we are to stop."""


def patiently(
    attempt: Callable[[], T],
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
) -> T | None:
    """Do what needs a broker as soon as there is one; return what came of it.

    ``say`` is told once, and again if the reason changes, why it has to wait. None if ``stopping``
    said so before.
    """
    failures, told = 0, ""
    while not stopping():
        try:
            return attempt()
        except BrokerAway as why:
            if str(why) != told:
                told = str(why)
                say(f"{told}; waiting until one does (Ctrl-C ends)")
        until = time.monotonic() + backoff(failures, ATTEMPTS)
        failures += 1
        while time.monotonic() < until and not stopping():
            time.sleep(STEP)
    return None
