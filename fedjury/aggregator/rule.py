"""The aggregation rule of a run: built from the settings, and tried before the first round."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedjury import rules
from fedjury.config.settings import Settings
from fedjury.protocol.checks import MAX_GROUPS
from fedjury.randomness import Purpose, stream
from fedjury.registry import Need
from fedjury.rules.limit import check_compared

TRIED = 2000
"""Updates that a rule is tried with at the most: some compare all with all."""


def checked_rule(settings: Settings) -> rules.Rule:
    """Build the rule and try it; a ``ValueError`` says what is wrong."""
    rule = rule_of(settings)
    check_rule(settings, rule)
    return rule


def rule_of(settings: Settings) -> rules.Rule:
    """Build the rule with its options and pre-aggregation; a ``ValueError`` says what is wrong."""
    message = settings.aggregation
    options: dict[str, Any] = dict(message.options)
    clip = options.pop("clip", message.clip) or None  # it may stand in either place
    if odd := {"name", "before"} & options.keys():
        raise ValueError(
            f"{', '.join(sorted(odd))} is not an option of the rule; see [aggregation]"
        )
    rule = rules.build(message.rule, clip, message.pre_aggregation, **options)
    if Need.SERVER_UPDATE in needs_of(settings) and not settings.data.server:
        raise ValueError(
            f"rule {message.rule!r} needs an update of the server's own: with "
            "data.server above 0 it keeps that share of the training set"
        )
    return rule


def needs_of(settings: Settings) -> frozenset[Need]:
    """Return what the rule needs beside the updates of the round."""
    return rules.RULES.facts(settings.aggregation.rule).needs


def check_rule(settings: Settings, rule: rules.Rule) -> None:
    """Try the rule on as many made-up updates as are expected; ``ValueError`` if it cannot."""
    called = settings.contributors
    n = min(settings.collect.threshold or called, called)
    if settings.groups.size != 1 or settings.validation.on_groups:
        check_groups(settings)
        n = max(1, n // settings.groups.size) if settings.groups.size else 1
    message = settings.aggregation
    base, steps = message.options.get("base"), message.pre_aggregation
    check_compared(message.rule, base, steps, n, message.partitions)
    if n > TRIED:
        return
    updates = stream(0, Purpose.TRIAL).standard_normal((n, 2)).astype(np.float32)
    context = rules.Context(server_update=updates[0], update_sums=updates)
    name, keeps = settings.aggregation.rule, Need.STATE in needs_of(settings)
    cut = rules.cut(updates, message.partitions)
    rules.applied(rule, name, cut, np.ones(n, np.int64), context, keeps=keeps)


def check_groups(settings: Settings) -> None:
    """Refuse more groups than can be voted on, and a rule that cannot work with them."""
    message, size, needs = settings.aggregation, settings.groups.size, needs_of(settings)
    if size != 1 and Need.UPDATE_SUMS in needs:
        raise ValueError(
            f"rule {message.rule!r} goes by what each agent sent in earlier rounds, and no update "
            f"stands alone in groups (groups.size = {size}); take another rule, or no groups"
        )
    if size and settings.validation.on_groups and settings.contributors // size > MAX_GROUPS:
        raise ValueError(
            f"{settings.contributors // size:,} groups are more than can be voted on "
            f"({MAX_GROUPS:,}); take a larger groups.size"
        )
    before = [name for name in message.pre_aggregation if name != "clip"]
    base = message.options.get("base", "mean")
    if not size and (Need.SUM not in needs or before or base != "mean"):
        raise ValueError(
            f"{(before or [message.rule])[0]!r} compares updates with each other, and one group of "
            "all (groups.size = 0) is a single one; take the rule mean, or smaller groups"
        )
