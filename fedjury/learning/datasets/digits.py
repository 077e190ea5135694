"""1,797 real digits of 8x8 pixels that ship inside scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from fedjury.learning.datasets.dataset import Dataset, hold_out
from fedjury.registry import dataset

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


@dataset(name="digits")
def load(_root: Path, test: int, seed: int) -> Dataset:
    """Load 8x8 digits, about 180 a class, ``test`` of them held out (see ``hold_out``)."""
    images, labels = read()
    return hold_out("digits", images, labels, 10, test=test, seed=seed)


@cache
def read() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return all images (1797, 1, 8, 8) and labels (1797,), read once in a process."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import

    pixels, labels = load_digits(return_X_y=True)
    # The values count set points in 4x4 blocks: 0 to 16.
    return (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)
