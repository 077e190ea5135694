"""What noise costs: epsilon, by the Rényi accountant of the library dp-accounting.

Each release is one Gaussian mechanism to which all agents contribute (sampling rate 1): who is
selected follows from the run's seed, which is no secret, so sampling hides nobody. The bound is up
to a tenth above the exact value for many releases; the library's exact accountant takes seconds.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType

from fedjury.privacy.release import Releases

WITHOUT = "privacy.noise needs the package dp-accounting, which says what it costs: {how}"
HOW = "pip install 'fedjury[privacy]'"


def library() -> ModuleType:
    """Return the library, which takes seconds to load.

    Raises
    ------
    ValueError
        If it is not installed.
    """
    try:
        return importlib.import_module("dp_accounting")
    except ImportError as why:
        raise ValueError(WITHOUT.format(how=HOW)) from why


def epsilon(releases: Releases, delta: float) -> float:
    """Return the spent epsilon; infinity where nothing bounds it."""
    if not releases:
        return 0.0
    if min(noise for noise, _ in releases) <= 0:
        return math.inf
    dp = library()
    accountant = dp.rdp.RdpAccountant()
    for noise, count in releases:
        accountant.compose(dp.GaussianDpEvent(noise), count)
    return float(accountant.get_epsilon(delta))


def noise_for(epsilon: float, delta: float, rounds: int) -> float:
    """Return the least ``privacy.noise`` with which so many rounds spend no more than epsilon.

    Raises
    ------
    ValueError
        If no noise does.
    """
    if not (epsilon > 0 and 0 < delta < 1 and rounds > 0):
        raise ValueError("epsilon and rounds must be above 0, and delta between 0 and 1")
    dp = library()
    return float(
        dp.calibrate_dp_mechanism(
            dp.rdp.RdpAccountant,
            lambda noise: dp.SelfComposedDpEvent(dp.GaussianDpEvent(noise), rounds),
            epsilon,
            delta,
        )
    )
