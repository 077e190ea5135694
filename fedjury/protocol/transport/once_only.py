"""Warnings about a connection, shown once each, and the messages that the broker dropped."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

DROPPED = "$SYS/broker/publish/messages/dropped"
"""Where Mosquitto counts the messages that it did not deliver, for their receiver's queue was full.
The embedded broker counts nothing."""

QUIET = 3.0
"""Seconds for which the number of those who are not let in must stay the same to be told."""

WAITING = 100
"""Notices that wait to be read; of more, the oldest are forgotten."""


class OnceOnlyWarnings:
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


class Outside:
    """Tells how many of a fleet are not let in, once their number has stayed the same for a while.

    Each of several places, such as processes, says who is not there, and why.
    """

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``say``: tells people. ``clock``: tells seconds, from whenever."""
        self._say, self._clock = say, clock
        self._places: dict[int, Mapping[str, str]] = {}
        self._count, self._since, self._told = 0, 0.0, 0

    def note(self, place: int, outside: Mapping[str, str]) -> None:
        """Take who is outside at a place -> why."""
        self._places[place] = outside

    def look(self, total: int) -> None:
        """Tell people, if there is something new to tell, of a fleet of so many."""
        count, now = sum(map(len, self._places.values())), self._clock()
        if count != self._count:
            self._count, self._since = count, now
        if now - self._since < QUIET or count == self._told:
            return
        self._told = count
        if not count:
            self._say("all agents are connected now")
            return
        whys = Counter(why for outside in self._places.values() for why in outside.values())
        why, most = whys.most_common(1)[0]
        rest = "" if most == count else f" ({most:,} of them; others for other reasons)"
        self._say(f"{count:,} of {total:,} agents cannot connect: {why}{rest}")


class Drops:
    """Adds up a broker's count of dropped messages, which begins again when the broker does."""

    def __init__(self) -> None:
        self.total = 0
        self.last: int | None = None

    def on_message(self, payload: bytes) -> None:
        """Take a count; what was dropped before the first is not ours."""
        text = bytes(payload)
        if not text.isdigit() or len(text) > 18:
            return
        count = int(text)
        if self.last is not None:
            self.total += count - self.last if count >= self.last else count
        self.last = count
