"""What a run with differential privacy has spent so far; it stands in each round's record."""

from __future__ import annotations

from dataclasses import dataclass

from fedjury.protocol.fields import COUNT, POSITIVE, entry


@dataclass(frozen=True, slots=True)
class Spent:
    """What all candidates so far, rejected ones too, may have told of any one agent's updates."""

    epsilon: float | None = entry(
        POSITIVE, "spent by all noisy candidates so far, rejected ones too; null: no bound", None
    )
    delta: float | None = entry(POSITIVE, "probability for which epsilon promises nothing", None)
    releases: int = entry(COUNT, "noisy candidates so far", 0)
    noise: float | None = entry(
        POSITIVE, "standard deviation of the last one's noise on the sum, in units of clip", None
    )

    @property
    def shown(self) -> str:
        """Epsilon as people read it: three digits of it, or that nothing bounds it."""
        return "no bound" if self.epsilon is None else f"{self.epsilon:.3g}"

    def __str__(self) -> str:
        """Return it as people read it: "epsilon 2.13 (delta 1e-05)"."""
        return f"epsilon {self.shown}" + (f" (delta {self.delta:g})" if self.delta else "")
