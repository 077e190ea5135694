"""The mean loss of models on the samples of each class, or of each bin of numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.error_profiles import bins_of, edges_of
from fedjury.learning.task import Predictions, Task


class ClassLosses(NamedTuple):
    """Of G models on one's own samples."""

    means: npt.NDArray[np.float64]
    """(G, C): 0 for a class without samples. C is half of the kinds of the task's errors."""
    counts: npt.NDArray[np.int64]
    """(C,): samples of each class."""


def class_losses(losses: npt.NDArray[np.float32], targets: Predictions, task: Task) -> ClassLosses:
    """Average the losses (G, N) of samples with targets (N,) over each class.

    Numbers are put into the bins of the task's profiles.
    """
    kinds = targets if task.classes else bins_of(targets, edges_of(targets))
    number = task.kinds // 2
    counts = np.bincount(kinds, minlength=number)
    sums = [np.bincount(kinds, row, minlength=number) for row in losses]
    means = np.stack(sums) / np.maximum(counts, 1)
    return ClassLosses(means, counts.astype(np.int64, copy=False))
