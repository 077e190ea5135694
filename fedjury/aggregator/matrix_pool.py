"""Memory that rounds use again and again for their updates."""

from __future__ import annotations

import sys

import numpy as np

from fedjury.learning.weights import Matrix

MATRICES = 3
"""How many are kept: a round's, the one before that detectors remember, and one to spare."""


class MatrixPool:
    """Hands out matrices, those first that nobody holds any more.

    New memory costs twice as much to write as old, for the system hands it out page by page, each
    filled with zeros (52 MB: 15 ms).
    """

    def __init__(self) -> None:
        self._matrices: list[Matrix] = []

    def take(self, n: int, d: int) -> Matrix:
        """Return a matrix (n, d) that holds anything, and that nobody else sees."""
        self._matrices = [matrix for matrix in self._matrices if matrix.shape == (n, d)]
        for matrix in self._matrices:
            # Three references are the list's, ours and the call's: nobody else holds it, or a view.
            if sys.getrefcount(matrix) == 3:
                return matrix
        self._matrices = [*self._matrices, np.empty((n, d), np.float32)][-MATRICES:]
        return self._matrices[-1]
