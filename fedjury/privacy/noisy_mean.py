"""A round's noisy mean: updates are clipped and added up, and noise on the sum hides each of them.

    (Σᵢ gᵢ min(1, C / ‖gᵢ‖) + N(0, (z C)² I)) / E

with C = ``privacy.clip``, z = ``privacy.noise``, and E the *expected* number of updates. Each
update counts once, whatever samples its sender claims, and E does not depend on who came: so one
agent more or less moves the sum by C at most, and what z costs does not depend on the data.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedjury.config.sections import Privacy
from fedjury.learning.weights import Matrix, Vector
from fedjury.privacy.noise import Source, normal

BLOCK = 1 << 20
"""Elements clipped at a time: 8 MiB in float64."""


@dataclass(frozen=True, slots=True)
class NoisyMean:
    """How the updates of a round become one that says little of any of them."""

    privacy: Privacy
    expected: int
    """E: how many updates the sum is divided by."""
    source: Source = os.urandom
    """Where random bytes come from; another only in tests."""

    def of(self, updates: Matrix) -> Vector:
        """Return the noisy mean (d,) of updates (n, d); it has other noise whenever it is asked."""
        return self.of_sum(clipped_sum(updates, self.privacy.clip))

    def of_sum(self, total: npt.NDArray[np.float64]) -> Vector:
        """Return the noisy mean (d,) of updates that were clipped, and whose sum (d,) this is."""
        said = self.privacy
        noisy = total + said.noise * said.clip * normal(len(total), self.source)
        return (noisy / self.expected).astype(np.float32)


def clipped_sum(updates: Matrix, clip: float) -> npt.NDArray[np.float64]:
    """Add up (n, d), each row of norm ``clip`` at the most; one that is not finite counts as 0."""
    total = np.zeros(updates.shape[1])
    rows = max(1, BLOCK // max(1, updates.shape[1]))
    for start in range(0, len(updates), rows):
        # In float64 the square of no float32 overflows.
        block = updates[start : start + rows].astype(np.float64)
        block[~np.isfinite(block).all(axis=1)] = 0
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        with np.errstate(divide="ignore"):
            shares = np.minimum(1, clip / norms)
        total += np.einsum("n,nd->d", shares, block)
    return total
