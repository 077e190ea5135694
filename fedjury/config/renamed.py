"""Settings and flags that were called otherwise before: the new name of each, and files of old.

An old name is not read as if nothing had happened: whoever uses it is told the new one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AbstractTable, InlineTable

from fedjury.config.sections import RENAMED, SettingsError

FLAGS: Mapping[str, str] = {
    "--before": "--pre-aggregation",
    "--share": "--client-fraction",
    "--who": "--judged-by",
    "--liars": "--vote-attack",
}


FOLDED = "agents.min_samples"
"""A setting that has become a part of ``agents.samples``."""

WITHDRAWN = "validation.false_alarm"
"""A setting of a way to decide that is no more."""


def check(dotted: str) -> None:
    """Raise a ``SettingsError`` with the new name if a setting has one."""
    if dotted == WITHDRAWN:
        raise SettingsError(
            f"the setting {WITHDRAWN} is no more, like validation.decide = 'score'; a judge has "
            "its own: validation.options = { false_alarm = 0.02 }; 'fedjury config upgrade FILE' "
            "takes it out of a file"
        )
    if dotted == FOLDED:
        raise SettingsError(
            f'the setting {FOLDED} is now said by agents.samples, like "uniform(2, 6)": 2 to 6 '
            "samples; 'fedjury config upgrade FILE' writes that into a file"
        )
    if new := RENAMED.get(dotted):
        raise SettingsError(
            f"the setting {dotted} is now called {new}; 'fedjury config upgrade FILE' writes the "
            "new names into a file"
        )


def program(old: str, new: str) -> NoReturn:
    """End a program that was started by the name that it had before."""
    print(f"error: '{old}' is now called '{new}'", file=sys.stderr)
    raise SystemExit(2)


class OldFlag(argparse.Action):
    """A flag that has another name now: it ends the program with that."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - argparse's signature
        values: str | Sequence[Any] | None,  # noqa: ARG002
        option_string: str | None = None,
    ) -> NoReturn:
        """Say the new name, and exit with 2."""
        parser.error(f"{option_string} is now called {FLAGS[option_string or '']}")


def upgrade(file: Path) -> list[str]:
    """Write the new names into a file of settings; returns what changed, as "old -> new".

    Comments and order stay.

    Raises
    ------
    SettingsError
        If it cannot be read or written, or holds old and new name of the same setting.
    """
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8"))
    except OSError as why:
        raise SettingsError(f"cannot read {file}: {why.strerror}") from why
    except (UnicodeDecodeError, TOMLKitError) as why:
        raise SettingsError(f"{file} is not TOML: {why}") from why
    changed = []
    for old, new in RENAMED.items():
        (section, key), (_, name) = old.split("."), new.split(".")
        table = document.get(section)
        if not isinstance(table, AbstractTable | InlineTable) or key not in table:
            continue
        if name in table:
            raise SettingsError(f"{file} sets both {old} and {new}, which are the same; remove one")
        table.value._replace(key, name, table[key])
        changed.append(f"{old} -> {new}")
    changed += _folded(document) + _withdrawn(document)
    if changed:
        try:
            file.write_text(tomlkit.dumps(document), encoding="utf-8")
        except OSError as why:
            raise SettingsError(f"cannot write {file}: {why.strerror}") from why
    return changed


def _withdrawn(document: tomlkit.TOMLDocument) -> list[str]:
    """Take out of a file what belonged to adding up scores; pooled counts come in its place."""
    section, key = WITHDRAWN.split(".")
    table, changed = document.get(section), []
    if isinstance(table, AbstractTable | InlineTable):
        if key in table:
            table.remove(key)
            changed.append(f"{WITHDRAWN} -> nothing")
        if table.get("decide") == "score":
            table["decide"] = "pooled"
            changed.append('validation.decide = "score" -> "pooled"')
    return changed


def _folded(document: tomlkit.TOMLDocument) -> list[str]:
    """Say in a file's ``agents.samples`` what its ``min_samples`` said, "old -> new" if it did.

    From the least number to as many above the mean, which is an equal share if it is 0.
    """
    table = document.get("agents")
    if not isinstance(table, AbstractTable | InlineTable) or "min_samples" not in table:
        return []
    least, mean = table.pop("min_samples"), table.get("samples", 0)
    if not least:
        return [f"{FOLDED} -> nothing, as it was 0"]
    high = f", {2 * mean - least}" if mean else ""
    table["samples"] = f"uniform({least}{high})"
    return [f"{FOLDED} -> agents.samples"]
