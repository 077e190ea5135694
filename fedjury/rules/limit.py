"""How many updates can be compared with each other: n² numbers have to fit into memory."""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedjury.registry import PRE_AGGREGATIONS, RULES, Need, Registry

MOST_COMPARED = 10_000
"""Updates that are compared with each other at the most: 0.8 GB a matrix of their distances."""

MATRICES = 5
"""Such matrices that are there at a time: products, distances and what is chosen by them."""


def check_compared(
    rule: str, base: object, steps: Mapping[str, object], n: int, partitions: int = 1
) -> None:
    """Refuse more updates than a rule, or a step before it, can compare with each other.

    ``base``: the rule that this one stands on, if there is one. ``steps``: those before the rule,
    name -> number, in order. ``partitions``: of columns.

    Raises
    ------
    ValueError
        That says how much memory it would take, and what to do.
    """
    for step, number in steps.items():
        if step == "bucketing" and isinstance(number, int | float) and number >= 1:
            n = math.ceil(n / number)
        _check(PRE_AGGREGATIONS, step, n, partitions)
    _check(RULES, rule, n, partitions)
    if isinstance(base, str):
        _check(RULES, base, n, partitions)


def within_limit(n: int, partitions: int = 1) -> int:
    """Return n, the number of updates that are about to be compared, in so many partitions.

    Raises
    ------
    ValueError
        If these are too many.
    """
    if n > MOST_COMPARED:
        raise ValueError(
            f"{n:,} updates cannot be compared with each other, which takes "
            f"{memory(n, partitions)}; {MOST_COMPARED:,} can"
        )
    return n


def _check(registry: Registry[object], name: str, n: int, partitions: int) -> None:
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
        f"{memory(n, partitions)}, and more than {MOST_COMPARED:,} are not compared; {buckets}"
        "call fewer agents (sampling.client_fraction) or take a rule that compares none, like "
        "'clipped_mean'"
    )


def matrices(partitions: int) -> int:
    """Return how many such matrices there are at the most.

    While sums over partitions are added in their tree, one of each of its levels waits for the
    other half, and two are being made.
    """
    return max(MATRICES, partitions.bit_length() + 1)


def memory(n: int, partitions: int) -> str:
    """Return for people what that takes."""
    return f"{matrices(partitions) * 8 * n * n / 1e9:,.1f} GB of memory"
