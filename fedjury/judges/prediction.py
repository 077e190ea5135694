"""Student's prediction interval: how far the next draw lies beyond those that came before.

With N draws of a normal distribution, their mean m and standard deviation s (by N - 1), the next
one, x, makes (x - m) / (s √(1 + 1/N)) follow Student's t with N - 1 degrees of freedom.
"""

from __future__ import annotations

import numpy as np

from fedjury.judges.sums import Array, deviation, mean

LEAST_SPREAD = 0.1
"""Floor under s: where nothing ever changed it would be 0, and the score infinite."""


def scores(past: Array, new: Array, least: float = LEAST_SPREAD) -> Array:
    """Score new draws (m,) by the N >= 2 draws (m, N) before each, as (m,).

    ``least``: floor under the standard deviation.
    """
    spread = np.maximum(deviation(past), least)
    result: Array = (new - mean(past)) / (spread * np.sqrt(1 + 1 / past.shape[1]))
    return result


def standardised(draws: Array) -> Array:
    """Put draws (m, N + 1) into units of how the first N of each row vary, around their mean."""
    past = draws[:, :-1]
    spread = np.maximum(deviation(past), LEAST_SPREAD)
    result: Array = (draws - mean(past)[:, np.newaxis]) / spread[:, np.newaxis]
    return result


def threshold(draws: int, false_alarm: float) -> float:
    """Return the score that the next draw after ``draws`` exceeds with that probability.

    Raises
    ------
    ValueError
        If ``false_alarm`` is not in (0, 0.5].
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped] # noqa: PLC0415 - slow to load

    if not 0 < false_alarm <= 0.5:
        raise ValueError(f"false_alarm must be above 0 and at most 0.5, not {false_alarm}")
    return float(stdtrit(draws - 1, 1 - false_alarm))
