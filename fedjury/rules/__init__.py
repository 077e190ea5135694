"""Aggregation rules: how the updates of a round become one.

A rule is a function ``(updates (n, d), samples (n,), context) -> (d,)``, all float32 but the
samples. It never writes its input, and it must cope with updates that are not finite. A new rule
is one file and one line of the table. Fronts stand before any rule, and change what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedjury.learning import tables
from fedjury.learning.weights import Matrix, Vector
from fedjury.rules import bucketing as buckets
from fedjury.rules import (
    bulyan,
    centered_clipping,
    clipped_mean,
    dnc,
    flame,
    fltrust,
    foolsgold,
    foundationfl,
    geometric_median,
    krum,
    mean,
    median,
    multi_krum,
    nnm,
    signguard,
    trimmed_mean,
)
from fedjury.rules import clip as clipping
from fedjury.rules.rule import Context, Front, Rule, Samples

__all__ = ["FRONTS", "OWN_UPDATE", "PAST", "RULES", "Context", "Front", "Rule", "Samples", "build"]

RULES: dict[str, Callable[..., Rule]] = {
    "mean": mean.mean,
    "clipped_mean": clipped_mean.clipped_mean,
    "median": median.median,
    "trimmed_mean": trimmed_mean.trimmed_mean,
    "krum": krum.krum,
    "multi_krum": multi_krum.multi_krum,
    "bulyan": bulyan.bulyan,
    "geometric_median": geometric_median.geometric_median,
    "centered_clipping": centered_clipping.centered_clipping,
    "fltrust": fltrust.fltrust,
    "flame": flame.flame,
    "foolsgold": foolsgold.foolsgold,
    "dnc": dnc.dnc,
    "signguard": signguard.signguard,
    "foundationfl": foundationfl.foundationfl,
}

OWN_UPDATE = frozenset({"fltrust"})
"""Rules that need the server's own update, and so data of its own (data.server)."""

PAST = frozenset({"foolsgold"})
"""Rules that need what each agent sent in earlier rounds."""

FRONTS: dict[str, Callable[[float], Front]] = {
    "clip": clipping.clip,
    "bucketing": buckets.bucketing,
    "nnm": nnm.nnm,
}
"""What may stand in front of a rule; each takes one number."""


def build(
    name: str,
    clip: float | None = None,
    before: Mapping[str, object] | None = None,
    **hyperparameters: object,
) -> Rule:
    """Build the rule of that name, with fronts before it.

    ``before``: front -> its number; the updates go through them in this order. ``clip``: norm
    clipping in front of all, if given.

    Raises
    ------
    ValueError
        If a name or a value is not valid.
    """
    rule = tables.build(RULES, "rule", name, hyperparameters, also=("clip",))
    given = ({} if clip is None else {"clip": clip}) | dict(before or {})
    if "bucketing" in given and name in PAST:
        raise ValueError(f"rule {name!r} must know who sent what, which bucketing hides")
    return fronted([_front(*item) for item in given.items()], rule) if given else rule


def _front(name: str, number: object) -> Front:
    if name not in FRONTS:
        raise tables.unknown("front of a rule", name, FRONTS)
    if type(number) not in (int, float):  # a bool is none here
        raise ValueError(f"{name} in front of a rule must be a number, not {number!r}")
    assert isinstance(number, int | float)
    return FRONTS[name](number)


def fronted(fronts: list[Front], rule: Rule) -> Rule:
    """Build the rule that is given what the fronts make of the updates."""

    def fronted_rule(updates: Matrix, samples: Samples, context: Context) -> Vector:
        for front in fronts:
            updates, samples = front(updates, samples, context)
        return rule(updates, samples, context)

    return fronted_rule
