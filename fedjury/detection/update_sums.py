"""What each agent has sent so far, added up: a row for each, found by name."""

from __future__ import annotations

from collections.abc import Collection as Names
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.weights import Matrix

LARGEST = np.finfo(np.float32).max


class UpdateSums(NamedTuple):
    """Sums of updates. A value: adding gives a new one."""

    names: npt.NDArray[np.generic]
    """(N,) bytes, sorted."""
    rows: Matrix
    """(N, d)."""

    def of(self, names: tuple[str, ...], size: int) -> Matrix:
        """Return the sums (n, d) of these agents; zeros for those who have sent nothing yet."""
        result = np.zeros((len(names), size), np.float32)
        known, where = self._find(names)
        if len(known):
            result[known] = self.rows[where]
        return result

    def plus(self, names: tuple[str, ...], updates: Matrix, kept: Names[str]) -> UpdateSums:
        """Add the updates (n, d) of these agents; those that are not finite add nothing.

        Who is neither among them nor among ``kept`` is forgotten.
        """
        still = np.isin(self.names, np.array([*kept, *names], "S64"))
        every = np.union1d(self.names[still], np.array(names, "S64"))
        rows = np.zeros((len(every), updates.shape[1]), np.float32)
        if still.any():
            rows[np.searchsorted(every, self.names[still])] = self.rows[still]
        with np.errstate(over="ignore"):
            places = np.searchsorted(every, np.array(names, "S64"))
            for row, update in zip(places.tolist(), updates, strict=True):
                if np.isfinite(update).all():
                    np.clip(rows[row] + update, -LARGEST, LARGEST, out=rows[row])
        return UpdateSums(every, rows)

    def _find(self, names: tuple[str, ...]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return which of these are known, and their rows."""
        wanted = np.array(names, "S64")
        at = np.searchsorted(self.names, wanted)
        known = np.flatnonzero(np.isin(wanted, self.names))
        return known, at[known]


NOTHING = UpdateSums(np.empty(0, "S64"), np.empty((0, 0), np.float32))
