"""Fields of frozen types that travel as JSON: how each is written, read, and put into documents.

A field says in its metadata under which key it travels, what may stand there, in which unit and
what it means. Reading believes nothing: unknown keys are skipped, and what is of another type,
too long, not finite or out of range is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from fedjury.protocol.messages import MAX_COUNT, Reason
from fedjury.protocol.topics import NAME, VERSION

MAX_ENTRIES = 100_000
"""Entries of a map or list that are looked at; one that has more is dropped."""

MAX_TEXT = 500
"""Characters of a text that are kept."""

MAX_SIZE = 2**53
"""Bytes, and the magnitude of a number: beyond that JSON's numbers are not exact."""

OTHER = "other"
"""In the place of a reason that we do not know."""

SERVER = ":server"
"""The server as a voter; no agent can be called so."""

Json = dict[str, Any]


Read = Callable[[object], Any]
"""Returns a value that fits, or raises ``ValueError``."""


def _strict(kind: Any, **bounds: Any) -> Read:
    """Make what reads a value of exactly this type, within bounds."""
    field = Field(strict=True, **bounds)
    return TypeAdapter(Annotated[kind, field]).validate_python


_count = _strict(int, ge=0, le=MAX_COUNT)
_size = _strict(int, ge=0, le=MAX_SIZE)
_number = _strict(float, gt=-MAX_SIZE, lt=MAX_SIZE, allow_inf_nan=False)
_positive = _strict(float, ge=0, lt=MAX_SIZE, allow_inf_nan=False)
_share = _strict(float, ge=0, le=1, allow_inf_nan=False)
_truth = _strict(bool)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - one kind of error for whatever does not fit
    cut = value if len(value) <= MAX_TEXT else f"{value[: MAX_TEXT - 1]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


def name(value: object) -> str:
    """Return the name of an agent, or the server's as a voter.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, str) or not (NAME.fullmatch(value) or value == SERVER):
        raise ValueError
    return value


def number(value: object) -> str:
    """Return a whole number that is the key of a map, as JSON writes it.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, str) or not VERSION.fullmatch(value):
        raise ValueError
    return value


def list_of(read: Read) -> Callable[[object], tuple[Any, ...]]:
    """Make what reads a list; entries that do not fit are left out."""

    def every(value: object) -> Iterator[Any]:
        if not isinstance(value, list) or len(value) > MAX_ENTRIES:
            raise ValueError
        for item in value:
            try:
                yield read(item)
            except ValueError:
                continue

    return lambda value: tuple(every(value))


def map_of(key: Callable[[object], str], read: Read) -> Callable[[object], dict[str, Any]]:
    """Make what reads a map; entries that do not fit are left out."""

    def every(value: object) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, dict) or len(value) > MAX_ENTRIES:
            raise ValueError
        for message, item in value.items():
            try:
                yield key(message), read(item)
            except ValueError:
                continue

    return lambda value: dict(every(value))


REASONS = frozenset(Reason)

OLD_REASONS = {"wrong_keys": Reason.MISSING_KEY, "not_called": Reason.NOT_SELECTED}
"""Reasons that had another name in protocol 1, by that name."""


def _reasons(value: object) -> dict[str, int]:
    """Read reason -> count; reasons that we do not know are put together as :data:`OTHER`."""
    result: dict[str, int] = {}
    for said, count in map_of(_text, _count)(value).items():
        reason = OLD_REASONS.get(said, said)
        key = str(reason) if reason in REASONS else OTHER
        if count:
            result[key] = min(result.get(key, 0) + count, MAX_COUNT)
    return result


@dataclass(frozen=True, slots=True)
class Kind:
    """What may stand under a key: its name in the documents, and what reads it."""

    name: str
    read: Read
    inside: type | None = None
    """Of a map whose values are of a type with fields: which."""
    by: str = "NAME"
    """What stands in the documents for the keys of that map."""


COUNT = Kind("whole number", _count)
SIZE = Kind("whole number", _size)
NUMBER = Kind("number", _number)
POSITIVE = Kind("number from 0", _positive)
SHARE = Kind("number 0 to 1", _share)
TRUTH = Kind("bool", _truth)
TEXT = Kind("text", _text)
NAMES = Kind("list of names", list_of(name))
SHARES = Kind("map name → number 0 to 1", map_of(name, _share))
TEXTS = Kind("map name → text", map_of(name, _text))
NUMBERS = Kind("map text → number", map_of(_text, _number))
BY_CELL = Kind("map cell → whole number", map_of(number, _count))
COUNTS = Kind("map reason → whole number", _reasons)
NAME_OR_NOTHING = Kind("name", lambda value: name(value) if value else "")
REASON = Kind("reason", lambda value: _text(value) if value in list(REASONS) else OTHER)
LEFT = Kind("list of texts", list_of(_text))
NUMBERED = Kind("list of whole numbers", list_of(_count))


@dataclass(frozen=True, slots=True)
class Entry:
    """How a field travels."""

    key: str
    """In JSON; empty: the field's name. A dot leads into a map: ``votes.clean``."""
    kind: Kind
    meaning: str
    unit: str = ""
    null: bool = False
    """Whether it may be null, which says that nobody measured it."""
    start: bool = False
    """Whether it is said of a run that begins, which has no round yet."""
    always: bool = False
    """Whether it is written even if its part of the record is missing."""
    optional: bool = False
    """Whether it is only written where it differs from the default."""
    old: str = ""
    """Its key in records of protocol 1, which are still read; none is written."""


def entry(kind: Kind, meaning: str, default: Any = MISSING, key: str = "", **how: Any) -> Any:
    """Declare a field of a record."""
    metadata = {"entry": Entry(key, kind, meaning, null=default is None, **how)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def part(kind: type, about: str = "", *, prefix: str = "", optional: bool = False) -> Any:
    """Declare a part of a type, whose fields travel beside the others, each with the prefix.

    ``about``: what the meaning of its fields begins with in the documents. ``optional``: it is
    None where none of its keys is there.
    """
    metadata = {"part": kind, "prefix": prefix, "about": about}
    if optional:
        return field(default=None, metadata=metadata)
    return field(default_factory=kind, metadata=metadata)


# ---------------------------------------------------------------- writing and reading


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands: how it travels, or the part that it is."""

    name: str
    key: str
    """In JSON; of a part, what its keys begin with."""
    entry: Entry | None
    part: type | None
    about: str
    default: Any
    old: str
    """The key that it had in protocol 1, where that was another."""
    words: frozenset[str]
    """First words of the keys: where none of them is in a map, the field is not either."""


_PLACES: dict[tuple[type, str], tuple[Place, ...]] = {}


def places(kind: type, prefix: str = "") -> tuple[Place, ...]:
    """Return where the fields of a type stand in JSON."""
    if known := _PLACES.get((kind, prefix)):
        return known
    result = []
    for built in fields(kind):
        if not built.metadata:
            continue
        how, inside = built.metadata.get("entry"), built.metadata.get("part")
        key = built.metadata["prefix"] if how is None else prefix + (how.key or built.name)
        default = {} if built.default is MISSING else built.default
        about = built.metadata.get("about", "")
        old = how.old if how is not None else ""
        keys = {key, old}
        if inside is not None:
            keys = {word for one in places(inside, key) for word in (one.key, one.old)}
        words = frozenset(word.partition(".")[0] for word in keys if word)
        result.append(Place(built.name, key, how, inside, about, default, old, words))
    return _PLACES.setdefault((kind, prefix), tuple(result))


def write(value: Any, into: Json, prefix: str = "", *, start: bool = False) -> Json:
    """Write the fields of a value into a map; ``start``: those alone that a run begins with."""
    present = getattr(value, "present", True)
    kind: type = type(value)
    for place in places(kind, prefix):
        inside = getattr(value, place.name)
        if place.entry is None:
            if inside is not None:
                write(inside, into, place.key, start=start)
            continue
        if start and not place.entry.start:
            continue
        above, _, last = place.key.rpartition(".")
        there = into.setdefault(above, {}) if above else into
        shown = present or place.entry.always
        if shown and not (place.entry.optional and inside == place.default):
            there[last] = jsonable(inside)
    return into


def jsonable(value: Any) -> Any:
    """Copy a value so that JSON can carry it: what is not finite becomes null."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return write(value, {}) if is_dataclass(value) else value


_PLAIN = frozenset({int, str, bool, type(None)})


def at(value: Json, key: str) -> Any:
    """Return what stands under a key, ``MISSING`` if nothing does; dots lead into maps."""
    if "." not in key:
        return value.get(key, MISSING)
    inside: Any = value
    for word in key.split("."):
        inside = inside.get(word, MISSING) if isinstance(inside, dict) else MISSING
    return inside


def values(kind: type, value: Json, fits: dict[str, bool], prefix: str = "") -> dict[str, Any]:
    """Read the fields of a type that are there; ``fits`` is told of their keys whether they fit.

    Of a part none of whose keys is there nothing is returned.
    """
    result: dict[str, Any] = {}
    for place in places(kind, prefix):
        if place.words.isdisjoint(value):
            continue
        if place.entry is None:
            assert place.part is not None
            if inside := values(place.part, value, fits, place.key):
                result[place.name] = place.part(**inside)
            continue
        message = at(value, place.key)
        if message is MISSING and place.old:
            message = at(value, place.old)
        if message is MISSING:
            continue
        try:
            null = message is None and place.entry.null
            result[place.name] = None if null else place.entry.kind.read(message)
            fits[place.key] = True
        except ValueError:
            fits[place.key] = False
    return result


def rows(kind: type, prefix: str = "", about: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type, unit and meaning of all fields of a type, for the documents."""
    for place in places(kind, prefix):
        if place.part is not None:
            yield from rows(place.part, place.key, place.about)
        elif how := place.entry:
            yield place.key, how.kind.name + " or null" * how.null, how.unit, about + how.meaning
            if how.kind.inside is not None:
                yield from rows(how.kind.inside, f"{place.key}.{how.kind.by}.")
