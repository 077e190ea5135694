"""Error profiles of a model, and how they vary (BAFFLE: Andreina et al., ICDCS 2021).

On a data set D of m samples in C classes, a model's profile holds for each class y

- the source-focused errors err^{y→*}: how many samples of class y are misclassified,
- the target-focused errors err^{*→y}: how many samples are wrongly called y,

first the C source-focused ones, then the C target-focused ones. The first half adds up to the
number of the model's errors, and so does the second if the model has a class for every sample; a
sample that it has none for (its outputs are not finite) is misclassified and called nothing.

The paper divides by m. Here errors stay whole numbers: judges compare models on one and the same D,
where the divisor changes no verdict, and whole numbers can be added and compared without rounding,
so that every machine and every language comes to the same vote.

Where numbers are predicted and not classes, the kinds are bins of the targets (``edges_of``). For
each bin the profile holds how many of its samples are predicted above the bin, first for all bins,
then how many below it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 10
"""Kinds of targets that are numbers, at the most."""

Profile = npt.NDArray[np.int64]
"""(2C,): counts of the class-wise errors of one model; of numbers (2K,), by bins of the targets."""

Histories = npt.NDArray[np.int64]
"""(m, l+1, 2C): of m validators, accepted models, oldest first."""

Candidates = npt.NDArray[np.int64]
"""(m, 2C): of m validators, one model each."""

Numbers = npt.NDArray[np.number[Any]]
"""Predictions or targets that are numbers."""

Edges = npt.NDArray[np.float64]
"""(K+1,) ascending: bin k is from edge k to edge k+1."""

Classes = npt.NDArray[np.integer[Any]]
"""Classes as numbers 0..C-1; -1 among predictions: no class."""


def error_profile(predictions: Classes, labels: Classes, classes: int) -> Profile:
    """Count errors of predictions (m,) by labels (m,), as (2C,); of predictions (v, m), as (v, 2C).

    Raises
    ------
    ValueError
        If there are no samples, the shapes do not fit, or a class is not in 0..C-1 (nor, of the
        predictions, -1).
    """
    if labels.ndim != 1 or not labels.size or predictions.shape[-1:] != labels.shape:
        raise ValueError(f"predictions {predictions.shape} do not fit labels {labels.shape}")
    for given, least in ((predictions, -1), (labels, 0)):
        if given.size and not least <= given.min() <= given.max() < classes:
            raise ValueError(f"classes run to {given.min()}..{given.max()}, not 0..{classes - 1}")
    called = predictions.reshape(-1, labels.size)
    wrong = called != labels
    source = _counts(np.broadcast_to(labels, called.shape), wrong, classes)
    target = _counts(called, wrong & (called >= 0), classes)
    counts = np.concatenate([source, target], axis=1).astype(np.int64, copy=False)
    return counts.reshape(*predictions.shape[:-1], 2 * classes)


def edges_of(targets: Numbers, bins: int = BINS) -> Edges:
    """Cut the range of targets (m,) into at most so many bins, and return the edges of these.

    The bins hold equally many targets; with ties there may be fewer. If no more than ``bins``
    different targets are there, each has a bin of its own, which ends half-way to the next.

    Raises
    ------
    ValueError
        If there are no targets, or not all are finite.
    """
    if targets.ndim != 1 or not targets.size or not np.isfinite(targets).all():
        raise ValueError(f"targets {targets.shape} must be (n,) finite numbers, one at least")
    values = np.unique(targets.astype(np.float64))
    if len(values) > bins:
        return np.unique(np.quantile(targets.astype(np.float64), np.linspace(0, 1, bins + 1)))
    if len(values) == 1:
        return np.repeat(values, 2)
    halves = np.diff(values) / 2
    return np.concatenate([[values[0] - halves[0]], values[:-1] + halves, values[-1:] + halves[-1]])


def residual_profile(predictions: Numbers, targets: Numbers, edges: Edges) -> Profile:
    """Count predictions (m,) beyond the bins of their targets (m,), as (2K,).

    Of predictions (v, m), as (v, 2K): first how many lie above each bin, then how many below. A
    prediction that is NaN lies above.

    Raises
    ------
    ValueError
        If there are no samples, or the shapes do not fit.
    """
    if targets.ndim != 1 or not targets.size or predictions.shape[-1:] != targets.shape:
        raise ValueError(f"predictions {predictions.shape} do not fit targets {targets.shape}")
    kinds, called = bins_of(targets, edges), predictions.reshape(-1, targets.size)
    above = ~(called <= edges[kinds + 1])
    cells, count = np.broadcast_to(kinds, called.shape), len(edges) - 1
    halves = [_counts(cells, side, count) for side in (above, called < edges[kinds])]
    counts = np.concatenate(halves, axis=1).astype(np.int64, copy=False)
    return counts.reshape(*predictions.shape[:-1], 2 * count)


def bins_of(targets: Numbers, edges: Edges) -> npt.NDArray[np.int64]:
    """Return the bin of each target (m,); those beyond all bins are in the nearest."""
    return np.searchsorted(edges[1:-1], targets, side="right").astype(np.int64, copy=False)


def variations(profiles: Histories) -> Histories:
    """Subtract from each profile the next one, (m, l+1, 2C) -> (m, l, 2C).

    An improvement is positive.
    """
    return profiles[:, :-1] - profiles[:, 1:]


def sizes(changes: Histories) -> npt.NDArray[np.int64]:
    """Return how much is in each change vector (..., p): the sum of the magnitudes, (...).

    Of a vector of zeros it is 0; an answer that changes moves it by 2 at the most.
    """
    result: npt.NDArray[np.int64] = np.abs(changes).sum(axis=-1)
    return result


def answers_changed(before: Numbers, after: Numbers) -> int | None:
    """Count the samples (n,) that two models answer differently; None if they are not the same n.

    No answer (NaN) from both is no difference.
    """
    if before.shape != after.shape:
        return None
    differ = before != after
    if before.dtype.kind == after.dtype.kind == "f":
        differ &= ~(np.isnan(before) & np.isnan(after))
    return int(np.count_nonzero(differ))


def _counts(values: Classes, chosen: npt.NDArray[np.bool_], classes: int) -> npt.NDArray[np.intp]:
    """Count each class among the chosen elements of each row: (v, m) -> (v, C)."""
    cells = values + classes * np.arange(len(values))[:, None]
    counts = np.bincount(cells[chosen], minlength=classes * len(values))
    return counts.reshape(len(values), classes)
