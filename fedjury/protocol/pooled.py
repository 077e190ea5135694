"""What a record says where the error counts of all validators decide."""

from __future__ import annotations

from dataclasses import dataclass

from fedjury.protocol.fields import COUNT, NUMBER, TRUTH, entry


@dataclass(frozen=True, slots=True)
class Pooled:
    """What the server says of the error counts of all validators together."""

    poisoned: bool = entry(TRUTH, "whether its judge calls the candidate poisoned", False)
    score: float | None = entry(NUMBER, "the score that its judge gives the candidate", None)
    threshold: float | None = entry(NUMBER, "a higher score means poisoned", None)
    validators: int = entry(COUNT, "validators whose error counts were pooled", 0)
    left_out: int = entry(
        COUNT, "counts left out of each sum at each end, as so many validators may lie", 0
    )
    secret_sums: int = entry(
        COUNT, "sums of counts that were judged, where nobody sees a validator's own", 0
    )

    def __str__(self) -> str:
        """Return it as people read it: "pooled score 1.2, threshold 4.1"."""
        score, threshold = (
            "?" if value is None else f"{value:.1f}" for value in (self.score, self.threshold)
        )
        return f"pooled score {score}, threshold {threshold}"
