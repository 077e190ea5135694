"""Reading the settings of a run: files on top of the defaults, then what the command line says."""

from __future__ import annotations

import codecs
import difflib
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from fedjury.config import renamed
from fedjury.config.section import SettingsError, checked
from fedjury.config.sections import Settings

__all__ = ["Settings", "SettingsError", "explained", "field_of", "fields", "keys_of", "load"]

STDIN = Path("-")
"""In the place of a file: the standard input."""

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte-order marks -> the encoding that begins so."""

Tables = dict[str, dict[str, Any]]


def load(
    files: Iterable[Path] = (),
    overrides: Mapping[str, Any] | None = None,
    base: Settings | None = None,
    scenarios: Iterable[Path] = (),
) -> Settings:
    """Read settings: the defaults, the scenarios, each file, then ``overrides``.

    ``overrides``: "section.key" -> value. ``base``: what takes the place of the defaults.
    ``scenarios``: files that a program brings along; what they say counts as nobody's, like a
    default. A file called ``-`` is the standard input. The environment variable FEDJURY_PASSWORD is
    the broker's password where none is given.

    Raises
    ------
    SettingsError
        If a file cannot be read, a key is unknown, or a value is not possible.
    """
    tables: Tables = base.model_dump() if base else {}
    given = set(base.given) if base else set()
    for file in scenarios:
        _merge(tables, _read(file), file)
    for file in files:
        given |= _merge(tables, _read(file), file)
    for dotted, value in (overrides or {}).items():
        section, _, key = dotted.partition(".")
        tables.setdefault(section, {})[key] = value
        given.add(dotted)
    broker = tables.setdefault("broker", {})
    if broker.get("password", "") == "":
        broker["password"] = os.environ.get("FEDJURY_PASSWORD", "")
    _check_names(tables)
    settings = checked(Settings, tables).with_given(given)
    return settings.with_honest_devices().with_possible_groups().with_fitting_jury()


def keys_of(file: Path) -> set[str]:
    """Return which settings a file sets, as "section.key"."""
    return {f"{section}.{key}" for section, keys in _read(file).items() for key in keys}


@cache
def fields() -> dict[str, FieldInfo]:
    """Return all settings, as "section.key" -> field; an experiment reads thousands of values."""
    return {
        f"{name}.{key}": field
        for name, section in Settings()
        for key, field in type(section).model_fields.items()
    }


def field_of(dotted: str) -> FieldInfo:
    """Return the field of the setting called ``section.key``.

    Raises
    ------
    SettingsError
        If there is none, with the nearest that there is.
    """
    known = fields()
    if dotted not in known:
        renamed.check(dotted)
        raise SettingsError(f"unknown setting {dotted!r}{_hint(dotted, known)}")
    return known[dotted]


@contextmanager
def explained() -> Iterator[None]:
    """Turn what tables and builders refuse into an error of the settings."""
    try:
        yield
    except ValueError as why:
        raise SettingsError(str(why)) from why


def _merge(tables: Tables, more: Mapping[str, Any], file: Path) -> set[str]:
    """Put a file on top of tables; returns what it gives, as "section.key".

    What is the default anyway counts as nobody's: a copy of ``default.toml``, or a file of all
    settings of a run, says no more than what differs in it.
    """
    given = set()
    for section, keys in more.items():
        if not isinstance(keys, dict):
            raise SettingsError(f"{file}: {section!r} must be in a section, like [run]")
        tables.setdefault(section, {}).update(keys)
        for key, value in keys.items():
            field = fields().get(f"{section}.{key}")
            if field is None or field.default != value:
                given.add(f"{section}.{key}")
    return given


def _read(file: Path) -> dict[str, Any]:
    try:
        data = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return tomllib.loads(_text(data))
    except OSError as why:
        raise SettingsError(f"cannot read {file}: {why.strerror}") from why
    except UnicodeDecodeError as why:
        raise SettingsError(
            f"{file} is not TOML: it is not text in UTF-8 ({why.reason} at byte {why.start}); "
            "save it as UTF-8"
        ) from why
    except (ValueError, RecursionError) as why:  # the last: tables in tables in tables
        raise SettingsError(f"{file} is not TOML: {why}") from why


def _text(data: bytes) -> str:
    """Decode a file: UTF-8, or what its byte-order mark says, as editors on Windows write it."""
    result = [encoding for mark, encoding in MARKS if data.startswith(mark)]
    return data.decode(result[0] if result else "utf-8")


def _check_names(tables: Tables) -> None:
    """Refuse sections and keys that do not exist, with the nearest that do."""
    sections = Settings.model_fields
    for section, keys in tables.items():
        if section not in sections:
            raise SettingsError(f"unknown section [{section}]{_hint(section, sections)}")
        for key in keys:
            field_of(f"{section}.{key}")


def _hint(name: str, valid: Iterable[str]) -> str:
    """Say what was probably meant; of ``section.key``, all keys of the section."""
    names = list(valid)
    near = difflib.get_close_matches(name, names, n=1)
    section = name.partition(".")[0] + "."
    fitting = [n for n in names if n.startswith(section)] or names
    meant = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{meant} valid: {', '.join(fitting)}"
