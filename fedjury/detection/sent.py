"""What each agent sent last, where it lies in the updates of the round in which it sent it.

Updates are many megabytes a round, so they are kept as they came, a matrix for each round of which
anybody's update still is the last one; no row is moved until most rows of its matrix are outdated.
And a matrix that is kept is the very same object from round to round: it need not be written to
disk again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.detection.detector import Memory, Observation
from fedjury.detection.rows import BLOCK, Ints, Rows, Values, places, recall, renewed
from fedjury.learning.weights import Matrix

UPDATES = "updates."
"""Before the round, in the key of a round's updates."""


class Sent(NamedTuple):
    """The last updates of k agents."""

    rows: Rows
    """Who they are, when each was heard of, and as "row" where its update lies then."""
    updates: dict[int, Matrix]
    """Round -> updates (m, d) that came in it."""

    def rounds(self, names: Sequence[str]) -> Iterator[tuple[int, Ints, Matrix, Ints]]:
        """Go through the rounds in which these agents sent what they sent last.

        Yields the round, who it is of ``names`` (m,), and where their updates lie in which matrix.
        """
        where = places(self.rows, names)
        known = np.flatnonzero(where >= 0)
        last, row = self.rows.last[where[known]], self.rows.values["row"][where[known]]
        for round_ in np.unique(last).tolist():
            those = np.flatnonzero(last == round_)
            yield round_, known[those], self.updates[round_], row[those]

    def plus(self, observation: Observation, which: Ints, more: Values | None = None) -> Sent:
        """Take note of what these senders (m,) of a round sent; forget who is long gone.

        ``more``: other values to be kept of them, (m, ...).
        """
        names = [observation.names[i] for i in which.tolist()]
        values = {"row": which, **(more or {})}
        rows = renewed(self.rows, names, values, observation.round, len(observation.joined))
        every = {**self.updates, observation.round: observation.updates}
        row, updates = rows.values["row"].copy(), {}
        for round_ in np.unique(rows.last).tolist():
            those = np.flatnonzero(rows.last == round_)
            kept = every[round_]
            if 2 * len(those) < len(kept):
                kept, row[those] = kept[row[those]], np.arange(len(those))
            updates[round_] = kept
        return Sent(rows._replace(values={**rows.values, "row": row}), updates)

    def memory(self) -> dict[str, npt.NDArray[Any]]:
        """Return it as plain arrays."""
        return self.rows.memory() | {f"{UPDATES}{n}": part for n, part in self.updates.items()}


def last_sent(memory: Memory, *keys: str) -> Sent:
    """Take what was sent last out of a memory, and more that was kept of its senders.

    Nothing was sent where the memory is empty, or not of this form.
    """
    rows = recall(memory if "row" in memory else {}, "row", *keys)
    if not rows.values:
        return Sent(rows._replace(values={"row": np.empty(0, np.int64)}), {})
    updates: dict[int, Any] = {
        int(key.removeprefix(UPDATES)): part
        for key, part in memory.items()
        if key.startswith(UPDATES)
    }
    return Sent(rows, updates)


def pairs(
    first: Matrix, one: Ints, second: Matrix, other: Ints
) -> Iterator[tuple[slice, Any, Any]]:
    """Go through m pairs of rows of two matrices (., d), as many at a time as fit the cache.

    Yields which of the m, and the rows of the first and of the second, without a copy where they
    lie together.
    """
    step = max(1, BLOCK // max(4 * first.shape[1], 1))
    for start in range(0, len(one), step):
        block = slice(start, min(start + step, len(one)))
        yield block, rows_of(first, one[block]), rows_of(second, other[block])


def rows_of(matrix: Matrix, which: Ints) -> Matrix:
    """Return rows (m,) of a matrix; a view where they lie together."""
    if len(which) and which[-1] - which[0] == len(which) - 1 and (np.diff(which) == 1).all():
        return matrix[which[0] : which[-1] + 1]
    return matrix[which]
