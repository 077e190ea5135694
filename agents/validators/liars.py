"""Validators who do not look: they hide their own attack, or deny everybody's training.

BAFFLE tolerates n_M of n validators lying while n_M < (1 - r) n / (2 - r), where r is the share
of honest ones who judge wrongly (Andreina et al., ICDCS 2021).
"""

from __future__ import annotations

from learning.validation.profiles import Profile, Profiles
from learning.validation.validate import NO_OPINION, Judge, Opinion


def always_accept() -> Judge:
    """Build the validator who calls every candidate clean."""

    def judge(_accepted: Profiles, _candidate: Profile, _samples: int) -> Opinion:
        return NO_OPINION

    return judge


def always_reject() -> Judge:
    """Build the validator who calls every candidate poisoned."""

    def judge(_accepted: Profiles, _candidate: Profile, _samples: int) -> Opinion:
        return Opinion(poisoned=True, score=1.0, threshold=0.0)

    return judge
