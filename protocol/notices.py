"""What people should know of a connection: told once each, and what the broker threw away."""

from __future__ import annotations

from collections import deque

DROPPED = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto counts the messages that it did not deliver, for their receiver's queue was full.
The embedded broker counts nothing."""

WAITING = 100
"""Notices that wait to be read; of more, the oldest are forgotten."""


class Notices:
    """Sentences for people. Of those of a kind, such as a thousand wrong passwords, one is told."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._waiting: deque[str] = deque(maxlen=WAITING)

    def add(self, text: str, kind: str) -> None:
        """Tell this, if nothing of its kind was told."""
        if kind not in self._known and len(self._known) < WAITING:
            self._known.add(kind)
            self._waiting.append(text)

    def take(self) -> list[str]:
        """Return what has not been told yet."""
        told = list(self._waiting)
        for _ in told:
            self._waiting.popleft()
        return told


class Drops:
    """Adds up a broker's count of dropped messages, which begins anew when the broker does."""

    def __init__(self) -> None:
        self.total = 0
        self._last: int | None = None

    def hear(self, payload: bytes) -> None:
        """Take a count; what was dropped before the first is not ours."""
        text = bytes(payload)
        if not text.isdigit() or len(text) > 18:
            return
        count = int(text)
        if self._last is not None:
            self.total += count - self._last if count >= self._last else count
        self._last = count
