"""Reading the settings of a run: files on top of the defaults, then what the command line says."""

from __future__ import annotations

import codecs
import dataclasses
import difflib
import json
import math
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from fedjury.config.sections import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "field_of", "like", "load", "to_toml"]

STDIN = Path("-")
"""In the place of a file: the standard input."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks -> the encoding that begins so."""

SECRET = {"broker.password"}
"""Settings that are never shown."""

TABLES = {
    "aggregation.before": "{ bucketing = 2, nnm = 20 }",
    "aggregation.options": "{ share = 0.2 }",
    "validation.options": "{ false_alarm = 0.05 }",
    "detection.options": "{ fixed_point = { crowd = 5 } }",
    "agents.options": "{ z = 1.5 }",
}
"""What each setting that is a table may look like."""


def load(
    files: Iterable[Path] = (),
    overrides: Mapping[str, Any] | None = None,
    base: Settings | None = None,
) -> Settings:
    """Read settings: the defaults, then each file, then ``overrides`` ("section.key" -> value).

    ``base``: what takes the place of the defaults. A file called ``-`` is the standard input. The
    environment variable FEDJURY_PASSWORD is the broker's password where none is given.

    Raises
    ------
    SettingsError
        If a file cannot be read, a key is unknown, or a value is not possible.
    """
    tables: dict[str, dict[str, Any]] = dataclasses.asdict(base) if base else {}
    for file in files:
        for section, keys in _read(file).items():
            if not isinstance(keys, dict):
                raise SettingsError(f"{file}: {section!r} must be in a section, like [run]")
            tables.setdefault(section, {}).update(keys)
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        tables.setdefault(section, {})[key] = value
    broker = tables.setdefault("broker", {})
    if broker.get("password", "") == "":
        broker["password"] = os.environ.get("FEDJURY_PASSWORD", "")
    return _record(tables)


def field_of(dotted: str) -> tuple[type, dataclasses.Field[Any]]:
    """Return the type and the field of the setting called ``section.key``.

    Raises
    ------
    SettingsError
        If there is none, with the nearest that there is.
    """
    known = _known()
    if dotted not in known:
        raise SettingsError(f"unknown setting {dotted!r}{_hint(dotted, known)}")
    return known[dotted]


def like(dotted: str) -> str:
    """Return an example of a setting that is a list or a table, as TOML; "" for any other."""
    kind, _ = field_of(dotted)
    lists: dict[Any, str] = {list[str]: '["fixed_point"]', list[int]: "[30, 35, 40]"}
    return TABLES.get(dotted) or lists.get(kind, "")


@cache
def _known() -> dict[str, tuple[type, dataclasses.Field[Any]]]:
    """Return all settings; an experiment reads thousands of values."""
    return {
        f"{name}.{item.name}": (hint, item)
        for name, section in get_type_hints(Settings).items()
        for item, hint in _fields(section)
    }


def to_toml(settings: Settings) -> str:
    """Write settings so that ``load`` reads the same; the password is left out."""
    lines = []
    for section, keys in dataclasses.asdict(settings).items():
        lines.append(f"[{section}]")
        lines += [f"{k} = {_toml(v)}" for k, v in keys.items() if k != "password"]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # JSON's escapes, but for two: TOML knows no surrogate pairs, and wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return tomllib.loads(_text(data))
    except OSError as why:
        raise SettingsError(f"cannot read {file}: {why.strerror}") from why
    except UnicodeDecodeError as why:
        raise SettingsError(
            f"{file} is not TOML: it is no text in UTF-8 ({why.reason} at byte {why.start}); "
            "save it as UTF-8"
        ) from why
    except (ValueError, RecursionError) as why:  # the last: tables in tables in tables
        raise SettingsError(f"{file} is not TOML: {why}") from why


def _text(data: bytes) -> str:
    """Decode a file: UTF-8, or what its byte-order mark says, as editors on Windows write it."""
    found = [encoding for mark, encoding in MARKS if data.startswith(mark)]
    return data.decode(found[0] if found else "utf-8")


def _record(tables: Mapping[str, Mapping[str, Any]]) -> Settings:
    sections: dict[str, Any] = get_type_hints(Settings)
    values = {}
    for section, keys in tables.items():
        if section not in sections:
            raise SettingsError(f"unknown section [{section}]{_hint(section, sections)}")
        checked = {key: _value(f"{section}.{key}", value) for key, value in keys.items()}
        values[section] = sections[section](**checked)
    return Settings(**values)


def _value(dotted: str, value: Any) -> Any:
    """Check one value against its field: type first, then range."""
    kind, item = field_of(dotted)
    if kind is float and type(value) is int and abs(value) < 1e308:
        value = float(value)
    shown = "..." if dotted in SECRET else repr(value)
    if not _fits(value, kind):
        raise SettingsError(f"{dotted} = {shown} must be {_called(dotted, kind)}")
    if not _is_text(value):
        raise SettingsError(
            f"{dotted} = {shown} holds bytes that are no UTF-8; rename it, or write it in UTF-8"
        )
    low, high = item.metadata.get("low", -math.inf), item.metadata.get("high", math.inf)
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{dotted} = {value!r} must be finite")
    if kind in (int, float) and not low <= value <= high:
        least = f"{low:,.15g} or more" if high == math.inf else f"{low:,.15g} to {high:,.15g}"
        raise SettingsError(f"{dotted} = {value!r} must be {least}")
    return value


def _is_text(value: Any) -> bool:
    """Return whether all text in a value can be written; a command line may hold any bytes."""
    try:
        str(value if isinstance(value, str) else _toml(value)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _fits(value: Any, kind: Any) -> bool:
    if kind == list[str]:
        return type(value) is list and all(type(item) is str for item in value)
    if get_origin(kind) is list:
        return type(value) is list and all(type(item) is int and item >= 0 for item in value)
    return type(value) is (get_origin(kind) or kind)


def _called(dotted: str, kind: Any) -> str:
    if example := like(dotted):
        what = {list[str]: "a list of names", list[int]: "a list of whole numbers from 0 on"}
        return f"{what.get(kind, 'a table')}, like {example}"
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, "text")


def _fields(section: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(section)
    return [(item, hints[item.name]) for item in dataclasses.fields(section)]


def _hint(name: str, valid: Iterable[str]) -> str:
    """Say what was probably meant; of ``section.key``, all keys of the section."""
    names = list(valid)
    near = difflib.get_close_matches(name, names, n=1)
    section = name.partition(".")[0] + "."
    fitting = [n for n in names if n.startswith(section)] or names
    meant = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{meant} valid: {', '.join(fitting)}"
