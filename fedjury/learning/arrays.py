"""Arrays that others are shown. Nothing here imports PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""(d,) float32: a model, or a change of one, in the manifest's order."""

Matrix = npt.NDArray[np.float32]
"""(n, d) float32: one row an update."""

NUMBERS = "biuf"
"""Kinds of NumPy's types that are numbers: truth values, whole numbers and floats."""


def read_only(array: Any) -> Any:
    """Return a view of an array that cannot be written; None of none."""
    if array is None:
        return None
    result = array.view()
    result.flags.writeable = False
    return result
