"""A cell's answer where the sum of its updates is asked for."""

from __future__ import annotations

import numpy as np

from fedjury.cells.kept import Kept
from fedjury.cells.tallies import Tallies
from fedjury.protocol.cells import PartialSum, SumRequest
from fedjury.rules.sums import CLIPPED, KINDS, TRUSTED, Asked, added


def answer(
    request: SumRequest, cell: int, life: int, tallies: Tallies, kept: Kept
) -> PartialSum | None:
    """Return the sum that a cell is asked for; None if it does not know what is asked of it."""
    cells = np.frombuffer(request.cells, "<u4")
    where = np.flatnonzero(cells == cell)
    asked = tallies.asked
    if not len(where) or (request.round, request.attempt) != (asked.round, asked.attempt):
        return None
    taken = int(np.frombuffer(request.taken, "<u4")[where[0]])
    lacks = request.kind != CLIPPED and request.centre is None
    if not 0 < taken <= len(tallies.row) or request.kind not in KINDS or lacks:
        return None
    if not 0 <= request.bound < np.inf or (request.kind == TRUSTED and not request.bound):
        return None
    without = np.frombuffer(request.without, "<u4").reshape(-1, 2)
    order = np.setdiff1d(np.arange(taken), without[without[:, 0] == cell, 1]).astype(np.int64)
    total = added(
        kept.partitions(order),
        np.array(tallies.samples)[order],
        np.array(tallies.norms)[order],
        Asked(request.kind, request.bound, request.bits, request.largest, request.centre),
    )
    width, data = total.packed()
    return PartialSum(cell, life, *(asked.round, asked.attempt, request.number), width, data)
