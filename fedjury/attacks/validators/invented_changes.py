"""What a malicious validator says that a candidate changes, where its vote is not what it found.

A vote says how many answers the candidate changes and how far it moves the class-wise errors, so a
liar says numbers that go with its verdict: of a clean candidate what one of the latest accepted
models changed, of a poisoned one as much more as a backdoor in one class changes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjury.attacks.validators.believable import Counts
from fedjury.learning.error_profiles import sizes

CANCELLING = 1.0, 2.0
"""Answers that change for each two errors that do: some changes cancel within their class."""


class Changed(NamedTuple):
    """What a validator says that the candidate changes; None where it cannot say."""

    answers: int | None
    errors: int | None


def invented_changes(
    accepted: Counts, samples: int, rng: np.random.Generator, *, poisoned: bool
) -> Changed:
    """Make up what a candidate changes after accepted models with these errors (l+1, 2C)."""
    past = sizes(np.diff(accepted, axis=0))
    errors = int(rng.choice(past[len(past) // 2 :])) if len(past) else 0
    if poisoned:
        classes = accepted.shape[1] // 2
        errors += 2 * int(np.ceil(rng.uniform(0.3, 1) * samples / classes))
    answers = int(np.ceil(errors / 2 * rng.uniform(*CANCELLING)))
    return Changed(min(answers, samples), min(errors, 2 * samples))
