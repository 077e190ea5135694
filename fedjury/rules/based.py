"""Rules that stand on another rule, which they name."""

from __future__ import annotations

from fedjury.registry import RULES, Need
from fedjury.rules.rule import Rule


def plain_rule(name: str) -> Rule:
    """Build the rule of a name without options, which may need nothing beside the updates.

    Raises
    ------
    ValueError
        If there is none, or it needs more.
    """
    if needs := RULES.facts(name).needs - {Need.SUM}:
        raise ValueError(f"base {name!r} needs {', '.join(sorted(needs))}: take another rule")
    built: Rule = RULES.build(name)
    return built
