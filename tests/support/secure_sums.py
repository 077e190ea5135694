"""What a broker sees of secure aggregation: which sums were opened over which model."""

from __future__ import annotations

from tools.chaos.sums_heard import SumsHeard


class OpenedOnTheWire(SumsHeard):
    """Listens on a run, and knows the members of every sum that its aggregator asked to open."""

    def __call__(self, topic: str, payload: bytes) -> None:
        """Take a message."""
        self.overhear(topic, payload)

    def check(self) -> None:
        """Make sure that of the sums over one model, no two overlap in part, and keys are new."""
        assert not self.wrong(), self.wrong()
