"""How many updates can be compared with each other: n² numbers have to fit into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedjury.registry import PRE_AGGREGATIONS, RULES, Need, Registry

MOST_COMPARED = 10_000
"""Updates that are compared with each other at the most: 0.8 GB a matrix of their distances."""

MATRICES = 3
"""Such matrices that are there at a time: products, distances and what is chosen by them."""


def check_compared(rule: str, base: object, steps: Mapping[str, object], n: int) -> None:
    """Refuse more updates than a rule, or a step before it, can compare with each other.

    ``base``: the rule that this one stands on, if there is one. ``steps``: those before the rule,
    name -> number, in order.

    Raises
    ------
    ValueError
        That says how much memory it would take, and what to do.
    """
    for step, number in steps.items():
        if step == "bucketing" and isinstance(number, int | float) and number >= 1:
            n = math.ceil(n / number)
        _check(PRE_AGGREGATIONS, step, n)
    _check(RULES, rule, n)
    if isinstance(base, str):
        _check(RULES, base, n)


def within_limit(n: int) -> int:
    """Return n, the number of updates that are about to be compared with each other.

    Raises
    ------
    ValueError
        If these are too many.
    """
    if n > MOST_COMPARED:
        raise ValueError(
            f"{n:,} updates cannot be compared with each other, which takes {_memory(n)}; "
            f"{MOST_COMPARED:,} can"
        )
    return n


def _check(registry: Registry[object], name: str, n: int) -> None:
    facts = registry.known(name)
    if not facts.compares_all or n <= MOST_COMPARED:
        return
    buckets = (
        ""
        if Need.UPDATE_SUMS in facts.needs
        else f"put bucketing before it (aggregation.pre_aggregation = {{ bucketing = "
        f"{math.ceil(n / MOST_COMPARED)} }} or more), "
    )
    raise ValueError(
        f"{registry.kind} {name!r} compares all updates with each other: of {n:,} that takes "
        f"{_memory(n)}, and more than {MOST_COMPARED:,} are not compared; {buckets}call fewer "
        "agents (sampling.client_fraction) or take a rule that compares none, like 'clipped_mean'"
    )


def _memory(n: int) -> str:
    return f"{MATRICES * 8 * n * n / 1e9:,.1f} GB of memory"
