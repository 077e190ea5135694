"""Aggregation rules: how the updates of a round become one.

A rule is a function ``(updates (n, d), samples (n,), context) -> (d,)``, all float32 but the
samples. It never writes its input, and it must cope with updates that are not finite. One that
needs ``state`` returns ``(d,)`` and a dict of arrays, which it finds in the context of the next
round. A new rule is one file here, or a function anywhere (``registry``). Pre-aggregation stands
before any rule, and changes what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedjury import registry
from fedjury.learning.arrays import Vector
from fedjury.registry import Need, Registry
from fedjury.rules.applied import applied, stepped
from fedjury.rules.partitions import PartitionedRule, Partitions, cut, given
from fedjury.rules.rule import Context, PreAggregation, Rule, RuleState, Samples

__all__ = [
    "PRE_AGGREGATIONS",
    "RULES",
    "Context",
    "Need",
    "PreAggregation",
    "Rule",
    "RuleState",
    "Samples",
    "applied",
    "build",
    "cut",
]

RULES: Registry[Rule] = registry.RULES

PRE_AGGREGATIONS: Registry[PreAggregation] = registry.PRE_AGGREGATIONS
"""Steps before the rule; each takes one number."""


def build(
    name: str,
    clip: float | None = None,
    before: Mapping[str, object] | None = None,
    **hyperparameters: object,
) -> Rule:
    """Build the rule of that name, with pre-aggregation before it.

    ``before``: name -> its number; the updates go through these steps in this order. ``clip``: norm
    clipping before all of them, if given.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    rule = RULES.build(name, options=hyperparameters, also=("clip",))
    given = ({} if clip is None else {"clip": clip}) | dict(before or {})
    if "bucketing" in given and Need.UPDATE_SUMS in RULES.facts(name).needs:
        raise ValueError(
            f"rule {name!r} must know which agent sent which update, which bucketing hides"
        )
    steps = {step: _pre_aggregation(step, number) for step, number in given.items()}
    return with_pre_aggregation(steps, rule) if steps else rule


def _pre_aggregation(name: str, number: object) -> PreAggregation:
    if name not in PRE_AGGREGATIONS and ":" not in name:
        raise registry.unknown("pre-aggregation", name, PRE_AGGREGATIONS)
    if type(number) not in (int, float):  # a bool is none here
        raise ValueError(f"pre-aggregation {name} must be a number, not {number!r}")
    assert isinstance(number, int | float)
    return PRE_AGGREGATIONS.build(name, number)


def with_pre_aggregation(steps: Mapping[str, PreAggregation], rule: Rule) -> Rule:
    """Build the rule that is given what these steps, by name, make of the updates."""

    def whole_rule(updates: Partitions, samples: Samples, context: Context) -> Vector:
        for place, (name, step) in enumerate(steps.items(), start=1):
            updates, samples = stepped(step, name, updates, samples, context._replace(place=place))
        return rule(given(rule, updates), samples, context)

    return PartitionedRule(whole_rule)
