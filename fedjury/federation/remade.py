"""The report of a run that is over, or under way, made again from what is in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjury import reports
from fedjury.aggregator.durable_files import StoreError, readable
from fedjury.aggregator.manifest import MANIFEST, settings_in, written_by_another
from fedjury.aggregator.records import check, read_records
from fedjury.config.settings import Settings, SettingsError, load
from fedjury.federation.demo import CASES, TITLE
from fedjury.federation.description import told
from fedjury.federation.parts import AGENTS_LOG
from fedjury.federation.result import Result, finish


def remade(folder: Path) -> Result:
    """Write the report of a run, or of a demo's four, into its folder again.

    Raises
    ------
    StoreError
        If there is no run in the folder, or what is written of it is damaged.
    """
    content = _manifest(folder)
    if content.keys() == CASES.keys():
        cases = [(title, *_run(folder / name, content[title])) for title, name in CASES.items()]
        return finish(folder, told(TITLE, cases[0][1], cases))
    settings, records = _run(folder, content)
    name = settings.run.name
    if _ours(folder):
        return finish(folder, told(f"Run {name}", settings, [(name, settings, records)]))
    return finish(folder, reports.of_run(name, settings, records))


def _ours(folder: Path) -> bool:
    """Return whether agents and aggregator were started together: then all is known of them."""
    return (folder / AGENTS_LOG).exists()


def _run(folder: Path, content: object) -> tuple[Settings, reports.Records]:
    """Return what was set and what happened in each round."""
    if not isinstance(content, Mapping):
        raise _unusable(folder, "it is not a table")
    if text := written_by_another(folder, content):
        raise StoreError(text)
    try:
        settings = load(overrides=settings_in(folder, content))
    except SettingsError as why:
        raise _unusable(folder, str(why)) from why
    if _ours(folder) and settings.collect.agents == settings.agents.prompt:
        # Nobody set that: the aggregator was told how many come.
        settings = settings.replaced(collect=settings.collect.replaced(agents=0))
    check(folder)
    records = read_records(folder)
    if not records:
        raise StoreError(f"{folder} contains no round of a run, so there is nothing to report")
    return settings, records


def _manifest(folder: Path) -> dict[str, Any]:
    """Read what was run."""
    file = folder / MANIFEST
    if not file.exists():
        what = f"has no {MANIFEST}" if folder.is_dir() else "is not a folder"
        raise StoreError(f"{folder} {what}: give the folder of a run, like runs/fedjury")
    try:
        content = json.loads(readable(file).read_bytes())
    except (OSError, ValueError, RecursionError) as why:
        raise _unusable(folder, str(why)) from why
    if not isinstance(content, dict):
        raise _unusable(folder, "it is not a table")
    return content


def _unusable(folder: Path, why: str) -> StoreError:
    """Make the error for a manifest without which nothing can be reported."""
    return StoreError(
        f"{folder / MANIFEST} is damaged ({why[:200]}): it does not say which run this was"
    )
