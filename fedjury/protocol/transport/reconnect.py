"""Who connects when: pauses that double, with jitter, so that a thousand do not come at once."""

from __future__ import annotations

import heapq
import random

BACKOFF = (0.5, 30.0)
"""Seconds before the first and, doubling, the latest attempts of a party to connect again."""

ATTEMPTS = (0.5, 5.0)
"""The same where the broker cannot be reached at all."""


def backoff(failures: int, span: tuple[float, float]) -> float:
    """Return how long (seconds) to wait after so many failures in a row, give or take a half."""
    return min(span[1], span[0] * 2.0 ** min(failures, 20)) * random.uniform(0.5, 1.5)


class ReconnectQueue:
    """The parties that wait to connect, and until when.

    Who was cut off or turned away waits for itself. Where the broker cannot even be reached, all
    wait together, for what one finds the next would find as well: one knocks for all.
    """

    def __init__(self) -> None:
        self._due: list[tuple[float, str]] = []
        self._closed_until = 0.0
        self._unreachable = 0

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, name: str, now: float, failures: int | None = None) -> None:
        """Let a party connect: at once, or after a pause for its ``failures`` so far."""
        later = 0.0 if failures is None else backoff(failures, BACKOFF)
        heapq.heappush(self._due, (now + later, name))

    def wait(self, now: float) -> float:
        """Say in how many seconds the next may connect."""
        return max(0.0, max(self._due[0][0], self._closed_until) - now)

    def next(self, now: float) -> str | None:
        """Return a party that may connect now, if there is one; it no longer waits."""
        if not self._due or self.wait(now) > 0:
            return None
        return heapq.heappop(self._due)[1]

    def unreachable(self, name: str, now: float) -> None:
        """Note that a party did not reach the broker: it and all others try again later."""
        self._closed_until = now + backoff(self._unreachable, ATTEMPTS)
        self._unreachable += 1
        self.add(name, now)

    def reached(self) -> None:
        """Note that the broker can be reached."""
        self._unreachable = 0
