"""Synchronous collection: all selected agents train from the same model (McMahan et al. 2017).

A round is closed once all have answered, once as many as ``collect.threshold`` have, or by its
deadline. Agents whose update was invalid may still send another, and may not be who they say they
are; so where nobody else is missing the round waits a moment more before it does without them.
"""

from __future__ import annotations

from collections.abc import Collection as Names
from dataclasses import dataclass

import numpy as np

from fedjury.learning.contributions import Contributions
from fedjury.protocol.messages import Reason, Update
from fedjury.round.collect.strategy import Progress, Verdict
from fedjury.round.collect.update_buffer import Allocate, UpdateBuffer, fresh


@dataclass(frozen=True, slots=True)
class Synchronous:
    """The collect strategy of a synchronous round."""

    threshold: int = 0
    """Updates that close a round; 0: as many as agents were selected."""
    largest_weight: int = 1000
    """The weight of an update is the number of its samples, up to this."""
    settle_seconds: float = 2.0
    """How long to wait for agents that sent something invalid, once all others have answered."""

    allocate: Allocate = fresh
    """Where the memory of the updates comes from."""

    def begin(self, selected: Names[str]) -> UpdateBuffer:
        """Return the empty buffer of a round."""
        return UpdateBuffer.of(selected, self.allocate)

    def refusal(self, update: Update, buffer: UpdateBuffer, *, version: int) -> Reason | None:
        """Return why an update is not accepted: trained from another model, or the second one."""
        if update.version != version:
            return Reason.WRONG_VERSION
        return Reason.DUPLICATE if update.agent in buffer else None

    def enough(self, progress: Progress, now: float, *, late: bool) -> Verdict:
        """Return whether all, or a threshold of them, have answered."""
        selected = len(progress.selected)
        if late or (selected and progress.answered >= min(self.threshold or selected, selected)):
            return Verdict.CLOSE
        if not selected or progress.answered + progress.invalid < selected:
            return Verdict.WAIT
        if progress.settled is None:
            return Verdict.SETTLE
        return Verdict.CLOSE if now >= progress.settled + self.settle_seconds else Verdict.WAIT

    def contributions(self, buffer: UpdateBuffer) -> Contributions:
        """Return one row an agent, weighted by its samples."""
        vectors, samples = buffer.matrix()
        return Contributions.of_agents(
            buffer.names, vectors, np.minimum(samples, self.largest_weight)
        )
