"""What a run's ``manifest.json`` says of the run, held against what is to go on in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjury.aggregator.durable_files import StoreError, damaged
from fedjury.config.sections import RENAMED
from fedjury.protocol.fields import jsonable

MANIFEST = "manifest.json"

FORMAT = 1
"""Of the folders that we write. Folders without one are older and are read as 1."""

SAME = {
    "model": "manifest.model",
    "tensors": "manifest.tensors",
    "classes": "manifest.classes",
    "input_shape": "manifest.input_shape",
    "seed": "settings.run.seed",
    "data.server": "settings.data.server",
}
"""What cannot change during a run, and where it is said."""

NAMED = {"data": "settings.data.name", "data.test": "settings.data.test"}
"""What cannot either, unless the samples are known to be the same: a file may have moved."""

FREE = ("broker.", "run.rounds", "run.directory")
"""Settings that say nothing of the run itself."""

Said = Mapping[str, Any]


def check_format(folder: Path, content: Said) -> None:
    """Make sure that this code wrote the folder, or an earlier one.

    Raises
    ------
    StoreError
        If it did not.
    """
    if text := written_by_another(folder, content):
        raise StoreError(f"{text}; choose another --run")


def written_by_another(folder: Path, content: Said) -> str:
    """Return a sentence if neither this code nor an earlier one wrote the folder; else ""."""
    number = content.get("format", FORMAT)
    if type(number) is int and number == FORMAT:
        return ""
    later = "a later fedjury" if type(number) is int and number > FORMAT else "no fedjury"
    shown = json.dumps(number)
    return f"{folder} was written by {later} (format {shown}; this one reads {FORMAT})"


def changes(folder: Path, before: Said | None, now: Said) -> list[str]:
    """Return what to tell people of how a run's settings have changed, at most one line.

    Raises
    ------
    StoreError
        If another run is in the folder, or what is written of it is damaged.
    """
    if before is None:
        return [f"{folder} has no {MANIFEST}: whether the settings are the run's is unknown"]
    now = json.loads(json.dumps(jsonable(now)))
    was, wanted = _flat(folder, before), _flat(folder, now)
    differing = [key for key in wanted if key in was and was[key] != wanted[key]]
    seen, sees = _data(folder, before), _data(folder, now)
    same = SAME if seen and seen == sees else SAME | NAMED
    other = [
        f"{name} {_shown(was[key])}, not {_shown(wanted[key])}"
        if name != "tensors"
        else "other tensors"
        for name, key in same.items()
        if key in differing
    ]
    if other:
        text = ", and of ".join(other)
        raise StoreError(f"{folder} holds a run of {text}; choose another --run")
    if seen and seen != sees:
        raise StoreError(
            f"{folder} holds a run with other data: {_other(seen, sees)}; choose another --run"
        )
    settings = {key: key.removeprefix("settings.") for key in differing if "settings." in key}
    told = [
        f"{name} {_shown(was[key])} -> {_shown(wanted[key])}"
        for key, name in settings.items()
        if not name.startswith(FREE)
    ]
    return [f"settings changed since: {', '.join(told)}"] if told else []


def settings_in(folder: Path, content: Said) -> dict[str, Any]:
    """Return the settings of a run, as ``section.key`` -> value, by the names of today.

    Raises
    ------
    StoreError
        If it does not say them.
    """
    try:
        return {
            RENAMED.get(name := f"{section}.{key}", name): value
            for section, keys in content["settings"].items()
            for key, value in keys.items()
        }
    except (AttributeError, KeyError, TypeError) as why:
        raise damaged(folder / MANIFEST, "it does not say which run this was") from why


def _flat(folder: Path, content: Said) -> dict[str, Any]:
    """Return ``manifest.key`` and ``settings.section.key`` -> value."""
    try:
        flat = {f"manifest.{key}": value for key, value in content["manifest"].items()}
    except (AttributeError, KeyError, TypeError) as why:
        raise damaged(folder / MANIFEST, "it does not say which run this was") from why
    settings = settings_in(folder, content).items()
    return flat | {f"settings.{key}": value for key, value in settings}


def _data(folder: Path, content: Said) -> dict[str, str]:
    """Return the fingerprint of a run's data; empty if the run is from before there was one."""
    result = content.get("data", {})
    if not isinstance(result, dict) or not all(isinstance(part, str) for part in result.values()):
        raise damaged(folder / MANIFEST, "it does not say which data the run used")
    return result


def _other(seen: Mapping[str, str], sees: Mapping[str, str]) -> str:
    """Say which parts of the data differ, and where it is their number that does."""
    told = []
    for part in sorted({*seen, *sees}):
        was, now = (content.get(part, "0 ") for content in (seen, sees))
        if was != now:
            counts = was.partition(" ")[0], now.partition(" ")[0]
            more = "" if counts[0] == counts[1] else f" ({counts[0]} then, {counts[1]} now)"
            told.append(f"{part}{more}")
    return f"the {', '.join(told)} differ"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)
