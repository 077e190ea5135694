"""What a broker sees of secure aggregation: which sums were opened over which model."""

from __future__ import annotations

from fedjury.protocol import codec
from fedjury.protocol.checks import Limits
from fedjury.protocol.messages import BadMessage
from fedjury.protocol.topics import USUAL
from tools.chaos.sums_heard import HEARD, SumsHeard


class OpenedOnTheWire(SumsHeard):
    """Listens on a run, and knows the members of every sum that its aggregator asked to open."""

    def __call__(self, topic: str, payload: bytes) -> None:
        """Take a message."""
        try:
            kind = USUAL.parse(topic).kind
        except BadMessage:
            return
        if kind in HEARD and payload:
            self.hear(codec.decode(topic, payload, Limits(finite=False)))

    def check(self) -> None:
        """Make sure that of the sums over one model, no two overlap in part, and keys are new."""
        assert not self.wrong(), self.wrong()
