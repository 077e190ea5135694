"""Rules that stand on another rule, which they name."""

from __future__ import annotations

from collections.abc import Callable

from fedjury.learning.arrays import Vector
from fedjury.registry import RULES, Need
from fedjury.rules.partitions import Partitions, given
from fedjury.rules.rule import Context, Rule, Samples


def plain_rule(name: str) -> Callable[[Partitions, Samples, Context], Vector]:
    """Build the rule of a name without options, which may need nothing beside the updates.

    Raises
    ------
    ValueError
        If there is none, or it needs more.
    """
    if needs := RULES.facts(name).needs - {Need.SUM}:
        raise ValueError(f"base {name!r} needs {', '.join(sorted(needs))}: take another rule")
    built: Rule = RULES.build(name)

    def rule(updates: Partitions, samples: Samples, context: Context) -> Vector:
        result: Vector = built(given(built, updates), samples, context)
        return result

    return rule
