"""A cell's answer where the sum of its updates is asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.cells.kept import Kept
from fedjury.cells.tallies import Tallies
from fedjury.protocol.cells import PartialSum, SumRequest
from fedjury.rules.sums import KINDS, Asked, Total, added


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
    if not 0 < taken <= len(tallies.row) or request.kind not in KINDS or not request.bound >= 0:
        return None
    without = np.frombuffer(request.without, "<u4").reshape(-1, 2)
    order = np.setdiff1d(np.arange(taken), without[without[:, 0] == cell, 1]).astype(np.int64)
    total = added(
        kept.partitions(order),
        np.array(tallies.samples)[order],
        np.array(tallies.norms)[order],
        Asked(request.kind, request.bound, request.bits, request.largest, request.centre),
    )
    width, data = packed(total)
    return PartialSum(cell, life, *(asked.round, asked.attempt, request.number), width, data)


def packed(total: Total) -> tuple[int, bytes]:
    """Return how many bytes each number of a sum takes, and all of them, its weight last."""
    numbers = np.append(total.values, total.weight).astype("<i8")
    largest = int(max(numbers.max(), -(numbers.min() + 1)))  # -2^k needs no bit more than 2^k - 1
    width = largest.bit_length() // 8 + 1
    return width, numbers.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def unpacked(width: int, data: bytes, d: int) -> Total:
    """Return the sum (d,) that was packed.

    Raises
    ------
    ValueError
        If these are not d + 1 numbers.
    """
    if len(data) != width * (d + 1):
        raise ValueError(f"{len(data):,} bytes are not {d + 1:,} numbers of {width}")
    wide = np.zeros((d + 1, 8), dtype=np.uint8)
    wide[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)
    negative = wide[:, width - 1] >= 128
    wide[negative, width:] = 255
    numbers: npt.NDArray[np.int64] = wide.view("<i8")[:, 0].astype(np.int64)
    return Total(numbers[:-1], int(numbers[-1]))
