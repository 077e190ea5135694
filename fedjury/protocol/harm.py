"""The figure that matters of a run: the largest backdoor that was let in, and accuracy lost.

It stands in each round's record, from which a run that resumes goes on with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedjury.protocol.fields import SHARE, entry


def _largest(*values: float | None) -> float | None:
    """Return the largest of what was measured; None if nothing was."""
    return max((one for one in values if one is not None and math.isfinite(one)), default=None)


@dataclass(frozen=True, slots=True)
class Harm:
    """What has happened to the global model in the whole run so far, through attacks or not."""

    largest_backdoor: float | None = entry(
        SHARE, "largest success of the backdoor in any model accepted so far", None, optional=True
    )
    best_accuracy: float | None = entry(
        SHARE,
        "best accuracy of the model before any round and of any accepted so far",
        None,
        optional=True,
    )
    accuracy_lost: float | None = entry(
        SHARE, "the best accuracy minus that of the global model", None, optional=True
    )

    def after(self, accuracy: float | None, backdoor: float | None = None) -> Harm:
        """Return it with the next global model; the ``backdoor`` of the first was not let in."""
        best, now = _largest(self.best_accuracy, accuracy), _largest(accuracy)
        lost = None if best is None or now is None else round(best - now, 6)
        return Harm(_largest(self.largest_backdoor, backdoor), best, lost)
