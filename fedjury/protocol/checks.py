"""What the values in a message must be: each check takes the key, what came, and the limits.

It returns the value, or raises ``BadMessage``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fedjury.protocol.call import DIGITS, PARTS, WHOLE, Call
from fedjury.protocol.cells import MAX_CELL_AGENTS
from fedjury.protocol.compression import Packed, decompress
from fedjury.protocol.counts import unpacked
from fedjury.protocol.messages import MAX_COUNT, BadMessage, Phase, Reason, Vector
from fedjury.protocol.secure import MAX_NEIGHBOURS
from fedjury.protocol.topics import NAME

MAX_NAMES = 1_000_000
MAX_EXCEPTIONS = 100_000
"""Names of agents that a call by number does not mean."""

NUMBER = re.compile(f"[0-9a-f]{{{DIGITS}}}")
"""What agents are called by."""

MAX_LOOK_BACK = 10_000
MAX_EVIDENCE = 101
"""Numbers in a vote's evidence."""

MAX_METRICS = 32
"""Values that one agent measures."""

MAX_METRIC = 64
"""Letters of the name of one."""

MAX_GROUPS = 10_000
"""Groups of one round that a vote is about."""

MAX_OPTIONS = 16
"""Of a judge, a loss or an optimizer."""


class Limits(NamedTuple):
    """What a receiver accepts: ``parameters`` d (None: any), payload ``size``, finite or not.

    ``counts``: error counts of a vote at the most; with 0 they are not read at all.
    """

    parameters: int | None = None
    size: int = 32_000_000
    finite: bool = True
    counts: int = 0


Check = Callable[[str, Any, Limits], Any]


def typed(key: str, value: Any, kind: type) -> None:
    """Refuse what is of another type."""
    if type(value) is not kind:  # a bool is no int here
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not {kind.__name__}")


def in_range(key: str, right: bool) -> None:
    """Refuse what is not right."""
    if not right:
        raise BadMessage(Reason.OUT_OF_RANGE, key)


def whole(least: int, most: int) -> Callable[[str, Any, Limits], int]:
    """Make the check of a whole number."""

    def check(key: str, value: Any, _: Limits) -> int:
        typed(key, value, int)
        in_range(key, least <= value <= most)
        return int(value)

    return check


def piece(least: int, most: int, of: int = 1) -> Check:
    """Make the check of bytes: so many, and a multiple of ``of``."""

    def check(key: str, value: Any, _: Limits) -> bytes:
        typed(key, value, bytes)
        if not least <= len(value) <= most or len(value) % of:
            raise BadMessage(Reason.WRONG_LENGTH, f"{key}: {len(value):,} bytes")
        return bytes(value)

    return check


count, positive, look_back = whole(0, MAX_COUNT), whole(1, MAX_COUNT), whole(0, MAX_LOOK_BACK)
how_many_groups = whole(0, MAX_GROUPS)
life, width = whole(0, 2**53), whole(1, 8)


def momentum(key: str, value: Any, limits: Limits) -> float:
    """Take a number from 0 to below 1."""
    in_range(key, 0 <= number(key, value, limits) < 1)
    return float(value)


def options(key: str, value: Any, _: Limits) -> dict[str, Any]:
    """Take the options of a plug-in."""
    typed(key, value, dict)
    in_range(key, len(value) <= MAX_OPTIONS)
    for name, item in value.items():
        in_range(key, len(name) <= 200 and type(item) in (str, int, float, bool))
        in_range(key, len(item) <= 200 if isinstance(item, str) else -1e308 <= item <= 1e308)
    return dict(value)


def number(key: str, value: Any, _: Limits) -> float:
    """Take a finite number."""
    if type(value) not in (int, float):
        raise BadMessage(Reason.WRONG_TYPE, f"{key} is not a number")
    in_range(key, -1e308 <= value <= 1e308)
    return float(value)


def moment(key: str, value: Any, limits: Limits) -> float:
    """Take a time of day, in seconds since 1970."""
    in_range(key, 0 <= number(key, value, limits) < 1e11)
    return float(value)


def values(key: str, value: Any, limits: Limits) -> dict[str, float]:
    """Take what was measured, by name."""
    typed(key, value, dict)
    in_range(key, len(value) <= MAX_METRICS)
    for name in value:
        typed(f"a name in {key}", name, str)
        in_range(key, 0 < len(name) <= MAX_METRIC and name.isprintable())
    return {name: number(key, item, limits) for name, item in value.items()}


def floats(most: int) -> Check:
    """Make the check of so many finite numbers at the most, four bytes each (float32)."""

    def check(key: str, value: Any, _: Limits) -> bytes:
        typed(key, value, bytes)
        in_range(key, len(value) % 4 == 0 and len(value) <= 4 * most)
        if not np.isfinite(np.frombuffer(value, "<f4")).all():
            raise BadMessage(Reason.NOT_FINITE, key)
        return bytes(value)

    return check


evidence, scores = floats(MAX_EVIDENCE), floats(MAX_GROUPS)


def counts(key: str, value: Any, limits: Limits) -> bytes:
    """Take error counts, if any are wanted."""
    typed(key, value, bytes)
    if not limits.counts:
        return b""
    in_range(key, len(value) <= 1 + 4 * limits.counts)
    try:
        numbers = len(unpacked(value))
    except ValueError as why:
        raise BadMessage(Reason.OUT_OF_RANGE, f"{key}: {why}") from why
    if numbers > limits.counts:
        raise BadMessage(Reason.WRONG_LENGTH, f"{numbers:,} {key}, at most {limits.counts:,}")
    return bytes(value)


def groups(key: str, value: Any, _: Limits) -> bytes:
    """Take the numbers of groups: some, ascending and so without repeats."""
    typed(key, value, bytes)
    in_range(key, len(value) % 4 == 0 and 0 < len(value) <= 4 * MAX_GROUPS)
    in_range(key, bool((np.diff(np.frombuffer(value, "<u4").astype(np.int64)) > 0).all()))
    return bytes(value)


def verdicts(key: str, value: Any, _: Limits) -> bytes:
    """Take a truth for each of some groups."""
    typed(key, value, bytes)
    in_range(key, len(value) <= MAX_GROUPS and not value.strip(b"\0\1"))
    return bytes(value)


def truth(key: str, value: Any, _: Limits) -> bool:
    """Take yes or no."""
    typed(key, value, bool)
    return bool(value)


def text(key: str, value: Any, _: Limits) -> str:
    """Take a short text."""
    typed(key, value, str)
    in_range(key, len(value) <= 200)
    return str(value)


def words(key: str, value: Any, limits: Limits) -> str:
    """Check a text that is shown to people: nothing in it moves a cursor or turns letters."""
    shown = text(key, value, limits)
    in_range(key, shown.isprintable())
    return shown


def neighbours(key: str, value: Any, _: Limits) -> str:
    """Take the names of agents with a blank between two."""
    typed(key, value, str)
    given = value.split(" ", MAX_NEIGHBOURS)
    in_range(key, len(given) <= MAX_NEIGHBOURS and all(map(NAME.fullmatch, given)))
    return str(value)


def some_names(key: str, value: Any, _: Limits) -> str:
    """Take the names of a cell's agents with a blank between two, or none."""
    typed(key, value, str)
    given = value.split(" ", MAX_CELL_AGENTS) if value else []
    in_range(key, len(given) <= MAX_CELL_AGENTS and all(map(NAME.fullmatch, given)))
    return str(value)


def refused(key: str, value: Any, limits: Limits) -> dict[str, int]:
    """Take why messages were refused, and how often; reasons that we do not know are skipped."""
    typed(key, value, dict)
    in_range(key, len(value) <= MAX_METRICS)
    counted = {words(key, name, limits): count(key, often, limits) for name, often in value.items()}
    known = {reason.value for reason in Reason}
    return {name: often for name, often in counted.items() if name in known}


def summed(key: str, value: Any, limits: Limits) -> bytes:
    """Take the numbers of a sum: at most eight bytes each, and one for its weight."""
    typed(key, value, bytes)
    length = (limits.parameters or limits.size // 8) + 1
    if not 0 < len(value) <= 8 * length:
        raise BadMessage(Reason.WRONG_LENGTH, f"{key}: {len(value):,} bytes")
    return bytes(value)


def masked(key: str, value: Any, limits: Limits) -> bytes:
    """Take what is packed of an update under masks: at most four bytes a number."""
    typed(key, value, bytes)
    length = (limits.parameters or limits.size // 4) + 2
    if not 0 < len(value) <= 4 * length:
        raise BadMessage(Reason.WRONG_LENGTH, f"{key}: {len(value):,} bytes")
    return bytes(value)


def phase(key: str, value: Any, _: Limits) -> Phase:
    """Take a phase of a round."""
    typed(key, value, str)
    if value not in tuple(Phase):
        raise BadMessage(Reason.OUT_OF_RANGE, f"this agent does not know the phase {value[:40]!r}")
    return Phase(value)


def names(key: str, value: Any, _: Limits) -> tuple[str, ...]:
    """Take the names of agents."""
    typed(key, value, list)
    in_range(key, len(value) <= MAX_NAMES)
    in_range(key, all(isinstance(name, str) and NAME.fullmatch(name) for name in value))
    return tuple(value)


def contributors(key: str, value: Any, limits: Limits) -> str | tuple[str, ...]:
    """Take names, or all."""
    return "all" if value == "all" else names(key, value, limits)


def calls(key: str, value: Any, limits: Limits) -> dict[str, Call]:
    """Take who is called by number for what; parts that we do not know are skipped."""
    typed(key, value, dict)
    return {part: _call(f"{key}.{part}", value[part], limits) for part in PARTS if part in value}


def _call(key: str, value: Any, limits: Limits) -> Call:
    typed(key, value, dict)
    if not value.keys() >= {"number", "share", "count"}:
        raise BadMessage(Reason.MISSING_KEY, f"{key} needs number, share and count")
    digits = value["number"]
    typed(f"{key}.number", digits, str)
    in_range(f"{key}.number", bool(NUMBER.fullmatch(digits)))
    share = whole(0, WHOLE)(f"{key}.share", value["share"], limits)
    without = names(f"{key}.without", value.get("without", []), limits)
    in_range(f"{key}.without", len(without) <= MAX_EXCEPTIONS)
    return Call(digits, share, count(f"{key}.count", value["count"], limits), without)


def dimensions(key: str, value: Any, limits: Limits) -> tuple[int, ...]:
    """Take a shape of at most eight dimensions."""
    typed(key, value, list)
    in_range(key, len(value) <= 8)
    return tuple(count(key, item, limits) for item in value)


def tensors(key: str, value: Any, limits: Limits) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Take names and shapes."""
    typed(key, value, list)
    in_range(key, all(isinstance(item, list) and len(item) == 2 for item in value))
    return tuple((text(key, name, limits), dimensions(key, size, limits)) for name, size in value)


def vector(key: str, value: Any, limits: Limits) -> Vector:
    """Take a vector of the model's length."""
    typed(key, value, dict)
    if not value.keys() >= {"codec", "n", "data"}:
        raise BadMessage(Reason.MISSING_KEY, f"{key} needs codec, n and data")
    typed("codec", value["codec"], str)
    typed("data", value["data"], bytes)
    packed = Packed(value["codec"], count("n", value["n"], limits), value["data"])
    if limits.parameters is not None and packed.n != limits.parameters:
        raise BadMessage(Reason.WRONG_LENGTH, f"{packed.n:,} parameters, not {limits.parameters:,}")
    # Before the manifest anybody may say how much is to be inflated; models are never compressed.
    if 4 * packed.n > limits.size * (1 if limits.parameters is None else 100):
        raise BadMessage(Reason.TOO_LARGE, f"{packed.n:,} parameters announced")
    vector = decompress(packed)
    if limits.finite and not finite(vector):
        raise BadMessage(Reason.NOT_FINITE, key)
    return vector


def spread(key: str, value: Any, limits: Limits) -> Vector:
    """Take a vector of the model's length, or one without entries."""
    nothing = isinstance(value, dict) and value.get("n") == 0
    return vector(key, value, limits._replace(parameters=0) if nothing else limits)


def finite(vector: Vector) -> bool:
    """Say whether all is finite; a sum of squares that is tells so at a third of the cost."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(vector, vector)) or np.isfinite(vector).all())
