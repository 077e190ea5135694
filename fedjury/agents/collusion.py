"""How malicious agents collude over the broker: reports to the coordinator, one plot for all.

Each attacker who is called trains honestly and reports that update to the coordinator, the evil
agent with the lowest number, called or not. The coordinator plots from all reports what they send
instead, and tells all of them at once: O(m) messages. A round never waits for them: the coordinator
makes do with the reports that came in time, and who hears of no plot sends its honest update.

Nothing here knows a clock: the time now, in seconds, comes in as a value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedjury.attacks.attack import RoundContext
from fedjury.attacks.colluding import Plotter, Strategy, carried_out
from fedjury.protocol.messages import AttackVector, ColluderUpdate, Phase, Round, Vector

GATHER = 0.25
"""Share of a round's time that the coordinator waits for reports after the first one."""

PATIENCE = 0.5
"""Share of a round's time that an attacker waits for a plot after its report."""

LONGEST = 600.0
"""Seconds that a round counts for here, at the most: some last however long their updates take."""

ENOUGH = 2
"""Reports without which there is nothing to plot from, unless no more attackers are called."""


class Coordinator:
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
        self._updates: dict[str, Vector] = {}
        self._until = 0.0
        self._vector: AttackVector | None = None
        self._due = self._made = False

    def begin(self, message: Round) -> None:
        """Hear who is called; a later attempt at a round may call others."""
        turn = message.round, message.version
        if turn[0] < self._turn[0] or message.phase not in (Phase.TRAIN, Phase.JUDGE_AND_TRAIN):
            return
        if turn != self._turn:
            self._turn, self._vector, self._due, self._made = turn, None, False, False
            self._called.clear()
            self._updates.clear()
        self._contributors = message.trains.size(self._agents)
        self._called.update(message.trains.among(self._attackers))
        self._seconds = min(message.seconds, LONGEST)

    def on_message(self, update: ColluderUpdate, now: float) -> None:
        """Take the first report of an attacker; after the plot: tell it again, it was missed."""
        if (update.round, update.version) != self._turn or update.agent not in self._called:
            return
        if self._vector is not None:
            self._due = True
            return
        if not self._updates:
            self._until = now + GATHER * self._seconds
        self._updates.setdefault(update.agent, update.delta)

    def attack_vector(self, now: float) -> AttackVector | None:
        """Return the plot if it is to be told now."""
        came = len(self._updates)
        complete = came == len(self._called) or (came >= ENOUGH and now >= self._until)
        if not self._made and came and complete:
            self._made = True  # if it fails, it would fail again
            self._vector, self._due = self._make(), True
        due, self._due = self._due, False
        return self._vector if due else None

    def _make(self) -> AttackVector:
        """Plot from the reports in order of number, whatever the order they came in."""
        names = sorted(self._updates, key=self._attackers.__getitem__)
        context = RoundContext(
            self._turn[0],
            tuple(self._attackers[name] for name in names),
            self._seed,
            contributors=self._contributors,
            attackers=len(self._called),
        )
        scheme = self._plotter(np.stack([self._updates[name] for name in names]), context)
        return AttackVector(*self._turn, *scheme)


class ColluderPool:
    """The colluding members of one process: what they learnt, until they know what to send."""

    def __init__(
        self, attackers: Mapping[str, int], seed: int, coordinator: Coordinator | None
    ) -> None:
        """``coordinator``: of the whole fleet, if it is in this process."""
        self._attackers, self._seed, self._coordinator = attackers, seed, coordinator
        self._turn, self._seconds = (-1, -1), 0.0
        self._learnt: dict[str, Vector] = {}
        self._unreported: list[str] = []
        self._until = 0.0
        self._vector: AttackVector | None = None

    def announce(self, message: Round) -> None:
        """Let the coordinator hear who is called."""
        if self._coordinator is not None:
            self._coordinator.begin(message)

    def begin(self, turn: tuple[int, int], seconds: float) -> None:
        """Begin a round and version that is to last so long; a plot of it may be here already."""
        self._turn, self._seconds = turn, min(seconds, LONGEST)
        self._learnt.clear()
        self._unreported.clear()

    def learn(self, learnt: Mapping[str, Vector]) -> None:
        """Take what members learnt honestly."""
        self._learnt.update(learnt)
        self._unreported.extend(learnt)

    def on_message(self, message: ColluderUpdate | AttackVector, now: float) -> None:
        """Take the first plot of this round, or of one to come, or hand a report to the leader."""
        if isinstance(message, ColluderUpdate):
            if self._coordinator is not None:
                self._coordinator.on_message(message, now)
        elif message.round > self._turn[0] or (
            not self._knows(self._turn) and (message.round, message.version) == self._turn
        ):
            self._vector = message

    def messages(self, now: float) -> list[ColluderUpdate | AttackVector]:
        """Return what is to be told now: reports of who knows of no plot, and a plot."""
        message: list[ColluderUpdate | AttackVector] = []
        if self._unreported and not self._knows(self._turn):
            message += [
                ColluderUpdate(name, *self._turn, self._learnt[name]) for name in self._unreported
            ]
            self._until = now + PATIENCE * self._seconds
        self._unreported.clear()
        vector = self._coordinator.attack_vector(now) if self._coordinator is not None else None
        return [*message, vector] if vector is not None else message

    def ready(self, now: float) -> dict[str, Vector]:
        """Return what members send who know it now: by the plot, or honestly if none came."""
        if not self._learnt or not (self._knows(self._turn) or now >= self._until):
            return {}
        learnt, self._learnt = self._learnt, {}
        if self._vector is None or not self._knows(self._turn):
            return learnt
        numbers = tuple(self._attackers[name] for name in learnt)
        context = RoundContext(self._turn[0], numbers, self._seed)
        scheme = Strategy(self._vector.centre, self._vector.spread)
        return dict(zip(learnt, carried_out(scheme, context), strict=True))

    def _knows(self, turn: tuple[int, int]) -> bool:
        """Say whether the plot that is here is that of a round."""
        return self._vector is not None and (self._vector.round, self._vector.version) == turn
