"""The plug-ins there are, as Markdown: for docs/plugins.md and the README.

``python -m fedjury.registry.listing`` writes them into the files, between the marks; a test says
whether they are up to date.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from fedjury.registry import KINDS, Registry
from fedjury.registry.facts import Facts

ROOT = Path(__file__).resolve().parents[2]

FILES = ("docs/plugins.md", "README.md")

PLACE = re.compile(r"(<!-- plug-ins: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""Where a listing stands in a file: "names", or a kind."""


def filled(text: str) -> str:
    """Return a page with what there is now between its marks."""
    kinds = {kind.mark.kind: kind for kind in KINDS}

    def listing(match: re.Match[str]) -> str:
        lines = names() if match[2] == "names" else table(kinds[match[2]])
        return "\n".join([match[1], *lines, "", match[3]])

    return PLACE.sub(listing, text)


def names() -> list[str]:
    """Return a table of all kinds with the names of their plug-ins."""
    rows = [f"| {kind.kinds} | {', '.join(f'`{name}`' for name in kind.own)} |" for kind in KINDS]
    return ["| | by name |", "|---|---|", *rows]


def table(kind: Registry[Any]) -> list[str]:
    """Return a table of the plug-ins of a kind, a row each: what it is, its options, its facts."""
    rows = [_row(kind, name, plugin.facts) for name, plugin in kind.own.items()]
    return [f"| {kind.kind} | what it is | options (default) | |", "|---|---|---|---|", *rows]


def _row(kind: Registry[Any], name: str, facts: Facts) -> str:
    what = facts.summary.replace("``", "`")
    return f"| `{name}` | {what} | {_options(kind, name)} | {_facts(facts)} |"


def _options(kind: Registry[Any], name: str) -> str:
    return ", ".join(map(_option, kind.options(name).values()))


def _option(option: inspect.Parameter) -> str:
    default = "" if option.default is None else f" ({option.default})"
    return f"`{option.name}`{default}"


def _facts(facts: Facts) -> str:
    """Return the facts that matter to whoever chooses, in words."""
    content = {
        "compares all updates": facts.compares_all,
        "holds data": facts.holds_data,
        "colludes": facts.colludes,
        "hides a backdoor": facts.hides_backdoor,
    }
    needs = [f"needs `{need}`" for need in sorted(facts.needs)]
    return ", ".join([*needs, *(words for words, true in content.items() if true)])


if __name__ == "__main__":
    for file in FILES:
        page = (ROOT / file).read_text(encoding="utf-8")
        (ROOT / file).write_text(filled(page), encoding="utf-8")
