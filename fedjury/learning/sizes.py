"""How many samples each agent holds, drawn once for the whole fleet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.config.sections import Dirichlet, LogNormal, Sizes, Uniform
from fedjury.learning.datasets.split import Counts

Weights = npt.NDArray[np.float64]


def drawn(sizes: Sizes, holders: int, available: int, rng: np.random.Generator) -> Counts:
    """Draw how many of ``available`` samples each agent with data holds, (holders,).

    Log-normal and Dirichlet sizes add up to exactly ``mean`` times the agents, or to all that is
    available; so some may come to 0.

    Raises
    ------
    ValueError
        If the least number is more than agents hold on average, or nobody comes to hold a sample.
    """
    share = max(1, available // max(holders, 1))
    match sizes:
        case int():
            held = np.full(holders, sizes or share, dtype=np.int64)
        case Uniform(low, high):
            _check_least("low", low, high or share)
            top = high or 2 * share - low
            held = rng.integers(low, top, size=holders, endpoint=True)
        case LogNormal(mean, sigma, least):
            weights = np.exp(_below_0(sigma * rng.standard_normal(holders)))
            held = _shared(weights, mean, least, available)
        case Dirichlet(mean, alpha, least):
            # The logarithm of Gamma(alpha), from Gamma(alpha + 1): itself, it may come to 0.
            grown = np.log(rng.standard_gamma(alpha + 1, holders))
            logs = grown - rng.standard_exponential(holders) / alpha
            held = _shared(np.exp(_below_0(logs)), mean, least, available)
    if holders and not held.any():
        raise ValueError(f"agents.samples: of {holders:,} agents nobody would hold a sample")
    return held


def _below_0(logs: Weights) -> Weights:
    """Return logarithms of weights, of which the largest is 1."""
    result: Weights = logs - logs.max(initial=-np.inf)
    return result


def _shared(weights: Weights, mean: float, least: int, available: int) -> Counts:
    """Give each the least number and share the rest out by weights, by largest remainders."""
    holders = max(1, len(weights))
    total = round(mean * holders) if mean else available
    _check_least("least", least, total / holders)
    wanted = (total - least * len(weights)) * weights / max(weights.sum(), 1.0)
    held: Counts = np.floor(wanted).astype(np.int64)
    left = total - least * len(weights) - int(held.sum())
    held[np.argsort(held - wanted, kind="stable")[:left]] += 1
    held += least
    return held


def _check_least(option: str, least: int, average: float) -> None:
    if least > average:
        raise ValueError(
            f"agents.samples: {option} = {least:,} is more than agents hold on average, "
            f"{average:,.6g}; take fewer"
        )
