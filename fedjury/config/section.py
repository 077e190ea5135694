"""What every section of the settings is: a frozen pydantic model whose errors are one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

S = TypeVar("S", bound="Section")


class SettingsError(ValueError):
    """A setting that cannot be: names the key, what is allowed, and the nearest right name."""


@dataclass(frozen=True)
class Flag:
    """The short name that a setting has on command lines."""

    name: str
    metavar: str = ""
    """What ``--help`` shows in the place of the value; empty: by the type."""


def in_utf8(value: Any) -> Any:
    """Let pass what can be written; a command line may hold any bytes."""
    left = [value]
    while left:
        match left.pop():
            case dict() as table:
                left += [*table.keys(), *table.values()]
            case list() as items:
                left += items
            case str() as text if any("\ud800" <= char <= "\udfff" for char in text):
                raise PydanticCustomError("not_utf8", "holds bytes that are not UTF-8")
    return value


Text = Annotated[str, AfterValidator(in_utf8)]
Options = Annotated[dict[str, object], AfterValidator(in_utf8)]
"""Options of plug-ins, which check them themselves."""
Numbers = list[Annotated[int, Field(ge=0)]]
"""Numbers of rounds, or of samples."""
Names = list[Text]
"""Names of plug-ins, or of parameters."""


class Section(BaseModel):
    """A table of the TOML file. Its ``model_fields_set`` are the keys that somebody gave."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    def replaced(self, **changes: Any) -> Self:
        """Return this section with other values, which are checked, and count as given.

        Raises
        ------
        SettingsError
            If a value is not possible.
        """
        result = checked(type(self), {**dict(self), **changes})
        return result.given_as(self.model_fields_set | changes.keys())

    def given_as(self, keys: AbstractSet[str]) -> Self:
        """Return the same values, of which somebody gave those of these keys."""
        result = type(self).model_construct(set(keys), **dict(self))
        return cast("Self", result)  # pydantic's plugin for mypy says: a Section


def checked(kind: type[S], values: Mapping[str, Any]) -> S:
    """Make a section, or all settings, of these values.

    Raises
    ------
    SettingsError
        If a value is not possible, in one sentence.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as why:
        raise SettingsError(_sentence(kind, values, why.errors()[0])) from None


def must(right: object, key: str, value: object, allowed: str) -> None:
    """Raise a ``SettingsError`` that says what a setting must be, unless it is right."""
    if not right:
        raise SettingsError(f"{key} = {value!r} must be {allowed}")


def type_of(field: FieldInfo) -> Any:
    """Return a setting's type: bool, int, float, str, dict, list[int] or list[str]."""
    origin = get_origin(field.annotation)
    if origin in (Literal, UnionType, Union):  # a number or text is read as text
        return str
    if origin is not list:
        return origin or field.annotation
    (item,) = get_args(field.annotation)
    return list[str] if str in (item, *get_args(item)) else list[int]


def bounds(field: FieldInfo) -> tuple[float, float]:
    """Return the least and the largest number that a setting may be."""
    low = [limit.ge for limit in field.metadata if isinstance(limit, Ge)]
    high = [limit.le for limit in field.metadata if isinstance(limit, Le)]
    return low[0] if low else -math.inf, high[0] if high else math.inf  # type: ignore[return-value]


def range_of(field: FieldInfo) -> str:
    """Say in words which numbers a setting may be."""
    low, high = bounds(field)
    return f"{low:,.15g} or more" if high == math.inf else f"{low:,.15g} to {high:,.15g}"


def example_of(field: FieldInfo) -> str:
    """Return an example of a setting that is a list or a table, as TOML; "" for any other."""
    return str(field.examples[0]) if field.examples else ""


def _sentence(kind: type[Section], values: Mapping[str, Any], error: ErrorDetails) -> str:
    """Say in our words what pydantic found wrong, with the setting as people write it."""
    if isinstance(why := error.get("ctx", {}).get("error"), SettingsError):
        return str(why)
    section, (key, *_) = kind, error["loc"]
    field = section.model_fields.get(str(key))
    if field and isinstance(field.annotation, type) and issubclass(field.annotation, Section):
        section, values, key = field.annotation, values[str(key)], error["loc"][1]
        field = section.model_fields.get(str(key))
    dotted, value = f"{section.__name__.lower()}.{key}", values.get(str(key))
    if field is None:
        return f"unknown setting {dotted!r}"
    shown = repr(value) if field.repr else "..."
    if error["type"] == "not_utf8":
        return f"{dotted} = {shown} holds bytes that are not UTF-8; rename it, or write it in UTF-8"
    return f"{dotted} = {shown} must be {_allowed(field, error)}"


def _allowed(field: FieldInfo, error: ErrorDetails) -> str:
    """Say what a setting may be, as far as this value is not."""
    if error["type"] == "literal_error":
        return " or ".join(get_args(field.annotation))
    if error["type"] == "finite_number":
        return "finite"
    kind = type_of(field)
    if kind in (int, float) and error["type"] in ("greater_than_equal", "less_than_equal"):
        return range_of(field)
    if example := example_of(field):
        called = {list[str]: "a list of names", list[int]: "a list of whole numbers from 0 on"}
        return f"{called.get(kind, 'a table')}, like {example}"
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, "text")
