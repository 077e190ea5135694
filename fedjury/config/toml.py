"""Writing settings as TOML: those of a run, and ``default.toml`` with what each of them means."""

from __future__ import annotations

import json
import re
from typing import Any

from fedjury.config.sections import Settings

HEADING = """\
# Every setting of fedjury with its default, its unit and its meaning.
# A scenario file holds only what differs:   python run.py --config config/jury.toml
# On the command line any of them can be set: --set agents.malicious_validators=0.1
# This file is written by fedjury config; what it says is said in fedjury/config/*_sections.py.
"""

PLUGINS = r"\{(\w+)\}"
"""A kind of plug-in in a description; ``--help`` puts their names in its place."""

COLUMN = 29
"""Where comments begin, if what they are about is not longer."""


def to_toml(settings: Settings) -> str:
    """Write settings so that ``load`` reads the same; the password is left out."""
    lines = []
    for section, keys in settings.model_dump().items():
        lines.append(f"[{section}]")
        lines += [f"{k} = {_toml(v)}" for k, v in keys.items() if k != "password"]
        lines.append("")
    return "\n".join(lines)


def default_toml() -> str:
    """Write ``config/default.toml``: every setting with its default and its description."""
    blocks = [HEADING]
    for name, section in Settings():
        about = (type(section).__doc__ or "").partition("\n")[0].removesuffix(".")
        lines = [_commented(f"[{name}]", about[0].lower() + about[1:])]
        for key, field in type(section).model_fields.items():
            shown = _toml(field.default) if field.default != {} else "{}"
            lines.append(_commented(f"{key} = {shown}", field.description or ""))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _commented(text: str, comment: str) -> str:
    return f"{text:<{COLUMN - 2}}  # {re.sub(PLUGINS, _listed, comment)}"


def _listed(kind: re.Match[str]) -> str:
    """Return where the plug-ins of a kind are listed, which the file cannot all name."""
    elsewhere = "" if kind[1] == "codec" else ", or package.module:name"
    return f"one of docs/plugins.md{elsewhere}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        # JSON's escapes, but for two: TOML knows no surrogate pairs, and wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)
