"""What the rule keeps from round to round: it goes on with accepted candidates alone."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

from fedjury.rules import RuleState

NOTHING: RuleState = MappingProxyType({})


class RuleMemory(NamedTuple):
    """What a rule keeps with the global model, and, with piggy-back, with the pending candidate."""

    rule: str = ""
    """Whose it is; empty: no rule has kept anything yet."""
    accepted: RuleState = NOTHING
    pending: RuleState | None = None
    """None where no candidate is pending."""

    def given(self, *, judging: bool) -> RuleState:
        """Return what the rule is given; ``judging``: it goes on from the pending candidate."""
        return self.pending if judging and self.pending is not None else self.accepted

    def after(
        self, rule: str, made: RuleState, *, judging: bool, accepted: bool, pending: bool
    ) -> RuleMemory:
        """Return what is kept after a round in which the rule ``made`` this.

        ``judging``: the candidate that was ``accepted``, or not, is of the round before.
        ``pending``: of this round's the next decides.
        """
        kept = self.given(judging=True) if judging else made
        return RuleMemory(rule, kept if accepted else self.accepted, made if pending else None)


EMPTY_MEMORY = RuleMemory()
"""Of a run that begins."""
