"""All selected agents train from the same model (McMahan et al. 2017).

A round is closed once all have answered, once as many as ``collect.threshold`` have, or by its
deadline. Agents whose update was invalid may still send another, and may not be who they say they
are; so where nobody else is missing the round waits a moment more before it does without them.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass

import numpy as np

from fedjury.learning.contributions import Contributions
from fedjury.protocol import admission
from fedjury.protocol.messages import Reason, Update
from fedjury.registry import collect
from fedjury.round.collect.strategy import Answer, Progress, Request
from fedjury.round.collect.update_buffer import Allocate, UpdateBuffer, fresh


@collect(name="synchronous")
@dataclass(frozen=True, slots=True)
class Synchronous:
    """The collect strategy of a synchronous round."""

    threshold: int = 0
    """Updates that close a round; 0: as many as agents were selected."""
    largest_weight: int = 1000
    """The weight of an update is the number of its samples, up to this."""
    allocate: Allocate = fresh
    """Where the memory of the updates comes from."""

    settle_seconds: float = 2.0
    """How long to wait for agents that sent something invalid, once all others have answered."""

    def begin(self, selected: Names[str]) -> UpdateBuffer:
        """Return a buffer with room for an update of each."""
        return UpdateBuffer.of(selected, self.allocate)

    def refusal(self, update: Update, collected: UpdateBuffer, request: Request) -> Reason | None:
        """Return why an update is not accepted: not what was asked for, or not the first one."""
        return admission.refusal(
            update, request.round, request.version, request.selected, collected
        )

    def awaited(self, selected: int) -> int:
        """Return how many answers the round waits for."""
        return min(self.threshold or selected, selected)

    def enough(self, progress: Progress, now: float, *, late: bool) -> Answer:
        """Return whether all, or a threshold of them, have answered."""
        selected = progress.selected
        if late or (selected and progress.answered >= self.awaited(selected)):
            return Answer.CLOSE
        if not selected or progress.answered + progress.invalid < selected:
            return Answer.WAIT
        if progress.settled is None:
            return Answer.SETTLE
        return Answer.CLOSE if now >= progress.settled + self.settle_seconds else Answer.WAIT

    def contributions(self, collected: UpdateBuffer, request: Request) -> Contributions:  # noqa: ARG002 - none is stale
        """Return one row an agent, weighted by its samples."""
        vectors, samples = collected.matrix()
        return Contributions.of_agents(
            collected.names, vectors, np.minimum(samples, self.largest_weight)
        )
