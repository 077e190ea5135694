"""What is said between a cell's ingest worker and the aggregator, where cells keep their updates.

A cell is a broker, the agents that connect there, and one ingest worker beside it. The worker
admits updates and keeps them; to the aggregator go names, counts and sums alone. Names of several
agents stand in one piece, with a blank between two.

``life`` is when a worker began, in microseconds since 1970: of two that speak for one cell the
later counts, and what the earlier one kept is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]

MAX_CELLS = 10_000
MAX_CELL_AGENTS = 100_000
"""Agents that one message of a cell is about."""

VOTES, EVALUATES = 1, 2
"""Bits of ``CellPresence.abilities``."""


@dataclass(frozen=True, slots=True)
class CellWorker:
    """Whether a cell's ingest worker is connected; its last will says that it no longer is."""

    cell: int
    online: bool
    life: int

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return named(self.cell)


@dataclass(frozen=True, slots=True)
class CellPresence:
    """Which agents have come to a cell, and which have left it."""

    cell: int
    life: int
    whole: bool
    """Whether ``came`` are all that are there, whatever was said before."""
    came: str
    abilities: bytes
    """A byte for each that came: whether it votes, and whether it measures candidates."""
    left: str

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return named(self.cell)


@dataclass(frozen=True, slots=True)
class Tally:
    """Whose updates a cell has admitted in an attempt at a round, in order of their arrival.

    ``first``: how many of them earlier tallies have told. ``samples``: what each says of its
    samples, four bytes each, least first. ``norms``: little-endian float64, the L2 norm of each
    update; not finite where the update is not. ``refused``: why others were not admitted, and how
    often, since the worker began this attempt; ``invalid``: of whom one that is called was refused
    for its content.
    """

    cell: int
    life: int
    round: int
    attempt: int
    first: int
    names: str
    samples: bytes
    norms: bytes
    refused: Mapping[str, float] = field(default_factory=dict)
    invalid: str = ""

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return named(self.cell)


@dataclass(frozen=True, slots=True)
class SumRequest:
    """Cells are asked for the sum of what a function makes of the updates they have told of.

    ``taken``: how many of the first each cell is to add, four bytes each, least first, the cells
    in ascending order; ``cells``: those, likewise. ``without``: which of them do not count, a cell
    and the place of an update in its tallies, from 0, four bytes each.
    ``kind``, ``bound``: which function, and its number (``fedjury.rules.sums``). ``bits``: how
    fine the numbers of the sum are, ``bound`` / 2^bits or less. ``largest``: no update counts more
    samples; 0: all count alike. ``centre``: a vector (d,) that the function needs.
    """

    round: int
    attempt: int
    number: int
    """Of the request in this attempt, from 1."""
    cells: bytes
    taken: bytes
    without: bytes
    kind: str
    bound: float
    bits: int
    largest: int
    centre: Vector | None = None


@dataclass(frozen=True, slots=True)
class PartialSum:
    """A cell's answer: d + 1 whole numbers, the sum and its weight.

    ``width``: bytes of each in ``data``, least first, two's complement.
    """

    cell: int
    life: int
    round: int
    attempt: int
    number: int
    width: int
    data: bytes

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return named(self.cell)


@dataclass(frozen=True, slots=True)
class GroupSumRequest:
    """Under secure aggregation a cell is asked for masked updates of a group, then for their sum.

    ``names``: who may send one, sorted. ``survivors``: of whom the sum is asked, a bit for each of
    them, least bit of the first byte first; empty while they may still send.
    """

    cell: int
    round: int
    attempt: int
    group: int
    session: bytes
    """What stands for all masks of the group: with others it is another sum."""
    version: int
    """Of the model from which they train."""
    length: int
    """Numbers that are summed."""
    bits: int
    """Of each."""
    names: str
    survivors: bytes = b""


@dataclass(frozen=True, slots=True)
class GroupSum:
    """Whose masked updates of a group a cell has, and once it is asked for it their sum.

    ``came``: a bit for each of the names in the request. ``data``: the sum of the survivors alone,
    packed as a masked update is; empty before.
    """

    cell: int
    life: int
    round: int
    attempt: int
    group: int
    session: bytes
    came: bytes
    data: bytes = b""

    @property
    def agent(self) -> str:
        """Who says so, where messages are counted."""
        return named(self.cell)


CellUp = CellWorker | CellPresence | Tally | PartialSum | GroupSum
"""What ingest workers say."""

TALLY_LONGEST = MAX_CELL_AGENTS * (2 * 65 + 4 + 8)
"""Bytes of the names, samples and norms in one tally, at the most."""


def named(cell: int) -> str:
    """Return what a cell is called where messages are counted by their senders."""
    return f"cell-{cell}"


def worker_login_of(cell: int) -> str:
    """Return as whom the ingest worker of a cell logs in at its broker."""
    return f"worker.{cell}"


def listed(names: str) -> tuple[str, ...]:
    """Return the names in one piece; none where it is empty."""
    return tuple(names.split(" ")) if names else ()
