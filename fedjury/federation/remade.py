"""The report of a run that is over, or under way, made again from what is in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedjury import reports
from fedjury.aggregator.durable_files import StoreError, damaged, readable
from fedjury.aggregator.manifest import MANIFEST, check_format, settings_in
from fedjury.aggregator.records import check, read_records
from fedjury.config.settings import Settings, SettingsError, load
from fedjury.federation.demo import CASES, TITLE
from fedjury.federation.description import told
from fedjury.federation.parts import AGENTS_LOG
from fedjury.federation.result import Result, finish

Said = Mapping[str, Any]


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
    if (folder / AGENTS_LOG).exists():  # its agents were ours, so that everything is known of them
        return finish(folder, told(f"Run {name}", settings, [(name, settings, records)]))
    return finish(folder, reports.of_run(name, settings, records))


def _run(folder: Path, content: object) -> tuple[Settings, reports.Records]:
    """Return what was set and what happened in each round."""
    if not isinstance(content, dict):
        raise damaged(folder / MANIFEST, "it does not say what was run")
    check_format(folder, content)
    try:
        settings = load(overrides=settings_in(folder, content))
    except SettingsError as why:
        raise damaged(folder / MANIFEST, str(why)) from why
    check(folder)
    records = read_records(folder)
    if not records:
        raise StoreError(f"{folder} holds no round of a run; there is nothing to report")
    return settings, records


def _manifest(folder: Path) -> dict[str, Any]:
    """Read what was run."""
    file = folder / MANIFEST
    if not file.is_file():
        what = "has no manifest.json" if folder.is_dir() else "is no folder"
        raise StoreError(f"{folder} {what}: give the folder of a run, like runs/fedjury")
    try:
        content = json.loads(readable(file).read_bytes())
    except (OSError, ValueError, RecursionError) as why:
        raise damaged(file, why) from why
    if not isinstance(content, dict):
        raise damaged(file, "it is no table")
    return content
