"""How evil agents collude over the broker: reports to the ringleader, one plot for all.

Each attacker who is called trains honestly and reports that update to the ringleader, the evil
agent with the lowest number, called or not. The ringleader plots from all reports what they send
instead, and tells all of them at once: O(m) messages. A round never waits for them: the ringleader
makes do with the reports that came in time, and who hears of no plot sends its honest update.

Nothing here knows a clock: the time now, in seconds, comes in as a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fedjury.attacks.colluding import Plotter, Scheme, carried_out
from fedjury.attacks.learner import Called
from fedjury.protocol.messages import Phase, Plot, Report, Round, Vector

GATHER = 0.25
"""Share of a round's time that the ringleader waits for reports after the first one."""

PATIENCE = 0.5
"""Share of a round's time that an attacker waits for a plot after its report."""

LONGEST = 600.0
"""Seconds that a round counts for here, at the most: some last however long their updates take."""

ENOUGH = 2
"""Reports without which there is nothing to plot from, unless no more attackers are called."""


class Ring(NamedTuple):
    """What sets evil agents apart on the network: whom they hear, and when they come."""

    colluding: frozenset[str] = frozenset()
    """Who hears of plots."""
    leader: str = ""
    """Who hears reports."""
    late: frozenset[str] = frozenset()
    """Who connects only when round ``arrive`` is announced."""
    arrive: int = 1


class Ringleader:
    """Gathers the reports of a round and makes the plot of them."""

    def __init__(
        self, plotter: Plotter, attackers: Mapping[str, int], agents: int, seed: int
    ) -> None:
        """``attackers``: name -> number of those who collude; ``agents``: in the whole fleet."""
        self._plotter, self._attackers = plotter, attackers
        self._agents, self._seed = agents, seed
        self._turn = (-1, -1)
        self._contributors, self._seconds = 0, 0.0
        self._called: set[str] = set()
        self._reports: dict[str, Vector] = {}
        self._until = 0.0
        self._plot: Plot | None = None
        self._due = False

    def begin(self, message: Round) -> None:
        """Hear who is called; a later attempt at a round may call others."""
        turn = message.round, message.version
        if turn[0] < self._turn[0] or message.phase not in (Phase.TRAIN, Phase.JUDGE_AND_TRAIN):
            return
        if turn != self._turn:
            self._turn, self._plot, self._due = turn, None, False
            self._called.clear()
            self._reports.clear()
        everybody = message.contributors == "all"
        self._contributors = self._agents if everybody else len(message.contributors)
        self._called |= self._attackers.keys() & (
            self._attackers if everybody else message.contributors
        )
        self._seconds = min(message.seconds, LONGEST)

    def hear(self, report: Report, now: float) -> None:
        """Take the first report of an attacker; after the plot: tell it again, it was missed."""
        if (report.round, report.version) != self._turn or report.agent not in self._called:
            return
        if self._plot is not None:
            self._due = True
            return
        if not self._reports:
            self._until = now + GATHER * self._seconds
        self._reports.setdefault(report.agent, report.delta)

    def plot(self, now: float) -> Plot | None:
        """Return the plot if it is to be told now."""
        came = len(self._reports)
        complete = came == len(self._called) or (came >= ENOUGH and now >= self._until)
        if self._plot is None and came and complete:
            self._plot, self._due = self._make(), True
        due, self._due = self._due, False
        return self._plot if due else None

    def _make(self) -> Plot:
        """Plot from the reports in order of number, whatever the order they came in."""
        names = sorted(self._reports, key=self._attackers.__getitem__)
        called = Called(
            self._turn[0],
            tuple(self._attackers[name] for name in names),
            self._seed,
            contributors=self._contributors,
            attackers=len(self._called),
        )
        scheme = self._plotter(np.stack([self._reports[name] for name in names]), called)
        return Plot(*self._turn, *scheme)


class Accomplices:
    """The colluding members of one process: what they learnt, until they know what to send."""

    def __init__(self, attackers: Mapping[str, int], seed: int, leader: Ringleader | None) -> None:
        """``leader``: of the whole fleet, if it is in this process."""
        self._attackers, self._seed, self._leader = attackers, seed, leader
        self._turn, self._seconds = (-1, -1), 0.0
        self._learnt: dict[str, Vector] = {}
        self._unreported: list[str] = []
        self._until = 0.0
        self._plot: Plot | None = None

    def announce(self, message: Round) -> None:
        """Let the ringleader hear who is called."""
        if self._leader is not None:
            self._leader.begin(message)

    def begin(self, turn: tuple[int, int], seconds: float) -> None:
        """Begin a round and version that is to last so long; a plot of it may be here already."""
        self._turn, self._seconds = turn, min(seconds, LONGEST)
        self._learnt.clear()
        self._unreported.clear()

    def learn(self, learnt: Mapping[str, Vector]) -> None:
        """Take what members learnt honestly."""
        self._learnt.update(learnt)
        self._unreported.extend(learnt)

    def hear(self, message: Report | Plot, now: float) -> None:
        """Take the first plot of this round, or of one to come, or hand a report to the leader."""
        if isinstance(message, Report):
            if self._leader is not None:
                self._leader.hear(message, now)
        elif message.round > self._turn[0] or (
            not self._knows(self._turn) and (message.round, message.version) == self._turn
        ):
            self._plot = message

    def says(self, now: float) -> list[Report | Plot]:
        """Return what is to be told now: reports of who knows of no plot, and a plot."""
        said: list[Report | Plot] = []
        if self._unreported and not self._knows(self._turn):
            said += [Report(name, *self._turn, self._learnt[name]) for name in self._unreported]
            self._until = now + PATIENCE * self._seconds
        self._unreported.clear()
        plot = self._leader.plot(now) if self._leader is not None else None
        return [*said, plot] if plot is not None else said

    def ready(self, now: float) -> dict[str, Vector]:
        """Return what members send who know it now: by the plot, or honestly if none came."""
        if not self._learnt or not (self._knows(self._turn) or now >= self._until):
            return {}
        learnt, self._learnt = self._learnt, {}
        if self._plot is None or not self._knows(self._turn):
            return learnt
        numbers = tuple(self._attackers[name] for name in learnt)
        called = Called(self._turn[0], numbers, self._seed)
        scheme = Scheme(self._plot.centre, self._plot.spread)
        return dict(zip(learnt, carried_out(scheme, called), strict=True))

    def _knows(self, turn: tuple[int, int]) -> bool:
        """Say whether the plot that is here is that of a round."""
        return self._plot is not None and (self._plot.round, self._plot.version) == turn
