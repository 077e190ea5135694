"""Rules that need nothing of the updates but a sum, made where the updates are.

Each cell adds up what a function makes of its own updates, in whole numbers, and d of them go up in
the place of all its rows. Whole numbers add up to the same in any order, so any number of cells
gives one model, to the last bit. For that every term needs a bound, which clipping gives: a plain
mean has none.

    mean behind a clip    Σ wᵢ gᵢ min(1, B / ‖gᵢ‖), B fixed, or the median norm (``clipped_mean``)
    fltrust               Σ tᵢ ‖g₀‖ gᵢ / ‖gᵢ‖ and Σ tᵢ, tᵢ = max(0, cos(gᵢ, g₀)); g₀ goes down
    centered clipping     Σ (gᵢ - v) min(1, τ / ‖gᵢ - v‖), one exchange an iteration; v goes down

The literature of each is where its rule is. A number is cut at 2^-32 of its bound or finer, below
float32's own precision of what is as long as the bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from fedjury.learning.arrays import Matrix, Vector
from fedjury.rules.blocks import BLOCK, narrow
from fedjury.rules.partitions import Partitions, by_column
from fedjury.rules.rule import Context, Samples

Wide = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

BITS = 32
"""Binary places of a number below its bound, where the sum leaves room for them."""

ROOM = 62
"""Bits of a sum at the most: one less than an int64 has beside its sign."""

PIECE = 4096
"""Columns of a row that are multiplied at a time."""

EXACT = 53
"""Bits of the whole numbers that float64 adds up without rounding."""

CLIPPED, TRUSTED, CENTRED = KINDS = "clipped", "trusted", "centred"


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What cells are to add up."""

    kind: str
    """``CLIPPED``, ``TRUSTED`` or ``CENTRED``."""
    bound: float
    """The longest term of an update that weighs 1, an L2 norm; not negative."""
    bits: int
    """The last place of the sum is the power of two at or over the bound, times 2^-bits."""
    largest: int = 0
    """Samples that count of an update at the most; 0: all updates weigh 1."""
    centre: Vector | None = None
    """g₀ or v, (d,)."""


class Total(NamedTuple):
    """A sum (d,) in whole numbers, and its weight; of several cells they are added."""

    values: Whole
    weight: int

    def plus(self, other: Total) -> Total:
        """Return both together."""
        return Total(self.values + other.values, self.weight + other.weight)

    def packed(self) -> tuple[int, bytes]:
        """Return how many bytes each number takes, and all of them, the weight last."""
        numbers = np.append(self.values, self.weight).astype("<i8")
        largest = int(max(numbers.max(), -(numbers.min() + 1)))  # -2^k fits where 2^k - 1 does
        width = largest.bit_length() // 8 + 1
        return width, numbers.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()

    @classmethod
    def unpacked(cls, width: int, data: bytes, d: int) -> Total:
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
        wide[wide[:, width - 1] >= 128, width:] = 255
        numbers = wide.view("<i8")[:, 0].astype(np.int64)
        return cls(numbers[:-1], int(numbers[-1]))


def fineness(updates: int, largest: int = 0) -> int:
    """Return how many bits there are for a term, if so many updates weigh so much each.

    Raises
    ------
    ValueError
        If fewer than float32's 24 are left.
    """
    bits = min(BITS, ROOM - (updates * max(1, largest)).bit_length())
    if bits < 24:
        raise ValueError(
            f"the sum of {updates:,} updates of up to {largest:,} samples does not fit into 64 "
            "bits; lower limits.samples"
        )
    return bits


def unit(asked: Asked) -> float:
    """Return what 1 stands for in a sum."""
    return math.ldexp(1.0, (math.frexp(asked.bound)[1] if asked.bound else 0) - asked.bits)


# ---------------------------------------------------------------- in a cell


def added(updates: Partitions, samples: Samples, norms: Wide, asked: Asked) -> Total:
    """Return what is asked for of a cell's updates (n, d).

    ``norms``: the L2 norm of each (n,), not finite where the update is not; that one counts as
    nothing.
    """
    known, weight = np.isfinite(norms), np.ones(updates.n)
    if asked.largest:
        weight = np.minimum(samples, asked.largest).astype(np.float64)
    most = max(1, asked.largest)
    if asked.kind == CLIPPED:
        factors = weight * shortened(norms, asked.bound, known)
        values = updates.columns(whole_sum, factors / unit(asked), None, asked.bits, most)
        return Total(values, int(weight.sum()))
    assert asked.centre is not None
    centre = by_column(asked.centre.astype(np.float64))
    if asked.kind == CENTRED:
        apart = np.sqrt(updates.total(from_centre, centre))
        factors = shortened(apart, asked.bound, known)
        values = updates.columns(whole_sum, factors / unit(asked), centre, asked.bits, 1)
        return Total(values, int(known.sum()))
    safe = np.where(known & (norms > 0), norms, 1)
    with np.errstate(all="ignore"):
        along = updates.total(along_centre, centre) / safe / asked.bound
    trust = np.minimum(np.where(known & (norms > 0) & (along > 0), along, 0), 1)
    values = updates.columns(
        whole_sum, trust * asked.bound / safe / unit(asked), None, asked.bits, 1
    )
    return Total(values, int(np.rint(np.ldexp(trust, asked.bits)).astype(np.int64).sum()))


def shortened(lengths: Wide, bound: float, known: npt.NDArray[np.bool_]) -> Wide:
    """Return by what each update is multiplied so that none is longer than the bound; 0 if odd."""
    factors = np.ones(len(lengths))
    np.divide(bound, lengths, out=factors, where=known & (lengths > bound))
    factors[~known] = 0
    return factors


def whole_sum(
    part: Matrix,
    first: int,  # noqa: ARG001
    factors: Wide,
    centre: Wide | None,
    bits: int,
    most: int,
) -> Whole:
    """Return Σ factorᵢ (gᵢ - centre) of a partition (n, w) in whole numbers, each term rounded.

    ``most``: the largest weight, for how many terms float64 adds up exactly.
    """
    width = part.shape[1]
    total, rows = np.zeros(width, dtype=np.int64), np.flatnonzero(factors)
    exact = 1 << max(0, EXACT - 1 - bits - most.bit_length())
    height = max(1, min(exact, BLOCK // 4 // max(1, width)))
    room = np.empty((min(height, len(rows)), width))
    for start in range(0, len(rows), height):
        those = rows[start : start + height]
        block = room[: len(those)]
        # Where all rows count no copy of them is made: most of the time.
        some = part[start : start + height] if len(rows) == len(part) else part[those]
        by = factors[those, np.newaxis]
        if centre is None:
            np.multiply(some, by, out=block)
        else:
            np.multiply(np.subtract(some, centre, out=block), by, out=block)
        total += np.rint(block, out=block).sum(axis=0).astype(np.int64)
    return total


def from_centre(part: Matrix, first: int, centre: Wide) -> Wide:  # noqa: ARG001
    """Return the squared distances (n,) of a partition's rows from a centre (w,)."""
    result = np.empty(len(part))
    height = max(1, BLOCK // 4 // max(1, part.shape[1]))
    for start in range(0, len(part), height):
        with np.errstate(all="ignore"):
            block = part[start : start + height] - centre
            result[start : start + height] = in_pieces(block, block)
    return result


def along_centre(part: Matrix, first: int, centre: Wide) -> Wide:  # noqa: ARG001
    """Return the products (n,) of a partition's rows with a vector (w,)."""
    with np.errstate(all="ignore"):
        return in_pieces(part, centre)


def in_pieces(rows: npt.NDArray[Any], others: Wide) -> Wide:
    """Return the products (n,) of rows with others, (n, w) or (w,).

    Piece by piece of so few columns that the sum of a row does not depend on which rows are beside
    it: then no cell makes another sum of it than the next.
    """
    result = np.zeros(len(rows))
    for start in range(0, rows.shape[1], PIECE):
        piece = slice(start, start + PIECE)
        if others.ndim == 1:
            result += np.einsum("nd,d->n", rows[:, piece], others[piece], dtype=np.float64)
        else:
            result += np.einsum("nd,nd->n", rows[:, piece], others[:, piece])
    return result


# ---------------------------------------------------------------- where the sums come together


class Known(NamedTuple):
    """What is known of the updates (n,) before anything is added up."""

    samples: Samples
    norms: Wide
    """Not finite where the update is not."""
    parameters: int
    """d."""
    context: Context


class SumRule(Protocol):
    """A rule that asks for sums, one after the other, until it has its update (d,)."""

    def first(self, known: Known) -> Asked | Vector:
        """Return what it asks for first; the update, where there is nothing to ask."""

    def then(self, known: Known, asked: Asked, step: int, total: Total) -> Asked | Vector:
        """Return what it asks for after the sum of request ``step`` (from 1), or the update."""


@dataclass(frozen=True)
class ClippedMean:
    """The mean of updates clipped to a fixed bound, or to their median norm times a factor."""

    clip: float = 0.0
    """0: none."""
    factor: float = 0.0
    """Of the median of the norms that are not zero; 0: it is not looked at."""
    largest: int = 0

    def first(self, known: Known) -> Asked | Vector:
        """Ask for the sum of what is clipped."""
        norms = np.where(np.isfinite(known.norms), known.norms, 0 if self.clip else np.inf)
        bound = self.clip or math.inf
        if self.factor:
            shorter = np.minimum(norms, bound) if self.clip else norms[np.isfinite(norms)]
            if not (shorter > 0).any():
                return np.zeros(known.parameters, np.float32)
            bound = min(bound, self.factor * float(np.median(shorter[shorter > 0])))
        return Asked(CLIPPED, bound, fineness(len(norms), self.largest), self.largest)

    def then(self, known: Known, asked: Asked, step: int, total: Total) -> Asked | Vector:  # noqa: ARG002
        """Divide the sum by what it weighs."""
        weight = total.weight
        if self.factor and not self.clip:  # those that are not finite are left out
            weight = int(np.isfinite(known.norms).sum())
        if not weight:
            raise ValueError(f"the samples of {len(known.samples)} updates add up to 0")
        return narrow(total.values.astype(np.float64) * (unit(asked) / weight))


@dataclass(frozen=True)
class Trusted:
    """FLTrust."""

    def first(self, known: Known) -> Asked | Vector:
        """Send the server's own update down, if there is one that says something."""
        own = known.context.server_update
        if own is None:
            raise ValueError("FLTrust needs an update of the server's own, and was given none")
        length = float(np.linalg.norm(own.astype(np.float64)))
        if not 0 < length < math.inf:
            return np.zeros(known.parameters, np.float32)
        return Asked(TRUSTED, length, fineness(len(known.norms)), centre=own)

    def then(self, known: Known, asked: Asked, step: int, total: Total) -> Asked | Vector:  # noqa: ARG002
        """Divide the sum by all trust."""
        if not total.weight:
            return np.zeros(known.parameters, np.float32)
        trust = math.ldexp(float(total.weight), -asked.bits)
        return narrow(total.values.astype(np.float64) * (unit(asked) / trust))


@dataclass(frozen=True)
class Centred:
    """Centered clipping."""

    tau: float
    iterations: int

    def first(self, known: Known) -> Asked | Vector:
        """Begin with the last accepted step, or with zero."""
        previous = known.context.previous
        usable = previous is not None and bool(np.isfinite(previous).all())
        start = np.array(previous if usable else np.zeros(known.parameters), dtype=np.float32)
        if not np.isfinite(known.norms).any():
            return start
        return Asked(CENTRED, self.tau, fineness(len(known.norms)), centre=start)

    def then(self, known: Known, asked: Asked, step: int, total: Total) -> Asked | Vector:  # noqa: ARG002
        """Move the centre by the mean of the clipped differences, and ask again if need be."""
        assert asked.centre is not None
        step_by = total.values.astype(np.float64) * (unit(asked) / max(1, total.weight))
        moved = narrow(asked.centre + step_by)
        if step >= self.iterations or not np.isfinite(moved).all():
            return moved
        return Asked(CENTRED, self.tau, asked.bits, centre=moved)


def sum_rule(
    rule: str, clip: float, steps: Mapping[str, object], options: Mapping[str, Any], largest: int
) -> SumRule:
    """Return the rule of that name as one of sums.

    ``clip``, ``steps``, ``options``: as the rule itself is built with. ``largest``: the samples of
    an update that count at the most.

    Raises
    ------
    ValueError
        If it needs more of the updates; says which rules do not.
    """
    bounds = [clip, *(float(str(number)) for step, number in steps.items() if step == "clip")]
    clip = min((bound for bound in bounds if bound), default=0.0)
    others = [step for step in steps if step != "clip"]
    match rule:
        case "mean" if clip and not others:
            return ClippedMean(clip, largest=largest if options.get("weighted") else 0)
        case "clipped_mean" if not others:
            return ClippedMean(clip, float(options.get("factor", 1.0)))
        case "fltrust" if not others:
            return Trusted()
        case "centered_clipping" if not others and not clip:
            return Centred(float(options.get("tau", 1.0)), int(options.get("iterations", 3)))
    if rule == "mean" and not others:
        raise ValueError(NO_BOUND)
    raise ValueError(NO_SUM.format(what=others[0] if others else rule))


NO_BOUND = (
    "cells that keep their updates send sums alone, and an update of any length would not fit into "
    "one: rule 'mean' needs aggregation.clip there, or take clipped_mean"
)
NO_SUM = (
    "{what!r} needs the updates themselves, and cells that keep them send sums alone; "
    "clipped_mean, mean with aggregation.clip, fltrust, and centered_clipping without it are sums; "
    "for others take cells.engine = 'ray'"
)
