"""Differential privacy of a run, made of its settings."""

from __future__ import annotations

from fedjury.config.privacy_sections import expected_of
from fedjury.config.settings import Settings
from fedjury.privacy import accounting
from fedjury.privacy.noisy_mean import NoisyMean


def noisy_mean_of(settings: Settings) -> NoisyMean | None:
    """Say how updates become one with differential privacy; None where that is not asked for.

    Raises
    ------
    ValueError
        If what says how much that costs is not installed.
    """
    if not settings.privacy.noise:
        return None
    accounting.library()
    return NoisyMean(settings.privacy, expected_of(settings))
