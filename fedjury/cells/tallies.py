"""What a cell has admitted in one attempt at a round. Nothing here touches a network or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from fedjury.protocol import admission
from fedjury.protocol.cells import MAX_CELL_AGENTS, Tally
from fedjury.protocol.messages import Reason, Update

MOST_TOLD = 10_000
"""Updates that one tally tells of."""


class Asked(NamedTuple):
    """What a round asks of the agents of a cell."""

    round: int
    attempt: int
    version: int
    called: Container[str]
    open: bool
    """Whether updates are taken."""


@dataclass
class Tallies:
    """Which updates were admitted, in order of their arrival, and what was refused."""

    asked: Asked
    most: int = MAX_CELL_AGENTS
    """Updates that are admitted at the most."""
    row: dict[str, int] = field(default_factory=dict)
    """An agent's name -> its place in the order of arrival, which is its row."""
    samples: list[int] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    invalid: set[str] = field(default_factory=set)
    """Of whom one that is called was refused for its content."""
    told: int = 0
    """How many of them the aggregator was told of."""
    news: bool = False
    """Whether something else was refused since."""
    twice: set[str] | None = None
    """Who has sent its update again since all were told of the round once more, which is no fault
    of theirs; None: they were told once."""

    def admits(self, update: Update) -> bool:
        """Return whether an update is taken; if not, count why."""
        asked = self.asked
        why = admission.refusal(update, asked.round, asked.version, asked.called, self.row)
        if why is Reason.DUPLICATE and self.twice is not None and update.agent not in self.twice:
            self.twice.add(update.agent)
            return False
        if not asked.open:
            why = Reason.WRONG_PHASE
        if why is None and len(self.row) >= self.most:
            why = Reason.TOO_MANY
        if why is not None:
            self.refuse(why)
        return why is None

    def add(self, update: Update, norm: float) -> int:
        """Count an admitted update, and return its row. ``norm``: its L2 norm."""
        row = self.row[update.agent] = len(self.row)
        self.samples.append(update.samples)
        self.norms.append(norm)
        self.invalid.discard(update.agent)
        return row

    def refuse(self, why: Reason, agent: str = "", *, update: bool = False) -> None:
        """Count a message that was refused; ``update``: it came as one, of this agent."""
        self.refused[why.value] += 1
        self.news = True
        asked = self.asked
        few = len(self.invalid) < MOST_TOLD
        if update and few and asked.open and agent in asked.called and agent not in self.row:
            self.invalid.add(agent)

    def tell_again(self) -> None:
        """Begin once more to tell what there is, and bear with agents that do the same."""
        self.told, self.news, self.twice = 0, True, set()

    def next(self, cell: int, life: int) -> Tally | None:
        """Return what is still to be told, or the first part of it; None if there is nothing."""
        first, end = self.told, min(len(self.row), self.told + MOST_TOLD)
        if end == first and not self.news:
            return None
        self.told, self.news = end, False
        return Tally(
            cell,
            life,
            self.asked.round,
            self.asked.attempt,
            first,
            " ".join(islice(self.row, first, end)),
            np.array(self.samples[first:end], "<u4").tobytes(),
            np.array(self.norms[first:end], "<f8").tobytes(),
            dict(self.refused),
            " ".join(sorted(self.invalid)),
        )
