"""What people are told while agents wait: for what, and what can be done about it. Pure."""

from __future__ import annotations

from collections.abc import Callable

from fedjury.protocol.messages import AggregatorPresence, Manifest, Message, Phase, Round

NOBODY = 3.0
"""Seconds without a manifest after which people are told what is being waited for."""

NO_ROUND = 15.0
"""The same of a run that has begun, and opens no round."""

OVERDUE = 30.0
"""The same after the time that a round had for its answers."""


class Waiting:
    """Follows what a fleet hears of its run, and says what it waits for.

    ``place``: the run and its broker, for people. ``elsewhere``: looks which runs are there, in
    words; it may take a second, and is only asked when there is something to tell.
    """

    def __init__(self, run: str, place: str, elsewhere: Callable[[], str], now: float) -> None:
        self._run, self._place, self._elsewhere = run, place, elsewhere
        self._due = now + NOBODY
        self._why = "nobody"
        self._told = False
        self._there = False
        """Whether the aggregator says that it is there."""

    def on_message(self, message: Message, now: float) -> None:
        """Take note of a message (``now`` in seconds)."""
        match message:
            case AggregatorPresence(online=online):
                self._told = self._told and online == self._there
                self._there = online
            case Manifest() if self._why == "nobody":
                self._wait_for("round", now + NO_ROUND)
            case Round(phase=Phase.DONE):
                self._wait_for("another", now)
            case Round(seconds=seconds):
                self._wait_for("aggregator", now + seconds + OVERDUE)

    def unheard(self, now: float) -> None:
        """Take note that the broker cannot be heard: that is told by itself, and time to wait."""
        self._due = max(self._due, now + NOBODY)

    def due(self, now: float) -> str:
        """Return the sentence that is due, each once until something new is heard; or nothing."""
        if self._told or now < self._due:
            return ""
        self._told = True
        there = self._elsewhere()
        return self._sentence() + (f"; existing runs: {there}" if there else "")

    def _wait_for(self, why: str, due: float) -> None:
        if why != self._why or why == "aggregator":
            self._told = False
        self._why, self._due = why, due

    def _sentence(self) -> str:
        command = f"'python -m aggregator --run {self._run}'"
        match self._why:
            case "round" | "aggregator" if self._there:
                return (
                    f"waiting for the next round of {self._place}: its aggregator is there, and "
                    "opens it when it is due and enough agents are online"
                )
            case "nobody":
                return (
                    f"waiting for an aggregator: none has started {self._place} yet; {command} "
                    "does, and --run NAME joins another run"
                )
            case "round":
                return (
                    f"waiting for a round: {self._place} has begun, but its aggregator opens none: "
                    f"it waits for more agents, or is gone; then {command} goes on"
                )
            case "another":
                return (
                    f"waiting: {self._place} is over; {command} goes on with it if it is given "
                    "more --rounds, and --run NAME joins another run"
                )
        return (
            f"waiting for the aggregator of {self._place}: the time for its round is over, and "
            f"it has not been heard since; {command} goes on if it is gone"
        )
