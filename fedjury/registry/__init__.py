"""Plug-ins by name: rules, attacks, judges and whatever else a settings file chooses.

A plug-in is a function that builds one rule (attack, judge ...) from its options. What the rest has
to know of it stands above it, and nowhere else::

    @rule(needs=["server_update"])
    def fltrust() -> Rule:

A name is one of three: that of a function so marked in the folder of its kind, which is found by
reading the folder, not by importing it; one that an installed package offers by an entry point; or
``package.module:name``, any function or class that Python can import from where one stands. Such a
one needs no mark: unmarked, it has no facts. Names and options come from settings, where a slip of
the pen must not go unnoticed.
"""

from __future__ import annotations

from typing import Any

from fedjury.registry.facts import Facts, Mark, Need
from fedjury.registry.table import Registry
from fedjury.registry.wrong import unknown

__all__ = [
    "ATTACKS",
    "BACKDOORS",
    "CODECS",
    "COLLECT",
    "DATASETS",
    "DETECTORS",
    "FRONTS",
    "JUDGES",
    "KINDS",
    "LIARS",
    "MODELS",
    "RULES",
    "SPLITS",
    "Facts",
    "Mark",
    "Need",
    "Registry",
    "attack",
    "backdoor",
    "codec",
    "collect",
    "dataset",
    "detector",
    "front",
    "judge",
    "liar",
    "model",
    "rule",
    "split",
    "unknown",
]

ATTACK_FACTS = frozenset({"report", "holds_data", "colludes", "hides_backdoor"})

rule = Mark("rule", frozenset({"needs"}))
front = Mark("front")
detector = Mark("detector", frozenset({"report"}))
attack = Mark("attack", ATTACK_FACTS)
liar = Mark("liar")
judge = Mark("judge")
backdoor = Mark("backdoor")
model = Mark("model")
dataset = Mark("dataset", words="data set")
split = Mark("split")
codec = Mark("codec")
collect = Mark("collect", words="collect strategy")

# Names of packages and not the packages, for this module is imported by them all.
RULES: Registry[Any] = Registry(rule, "fedjury.rules", "fedjury.rules")
FRONTS: Registry[Any] = Registry(front, "fedjury.rules", "fedjury.fronts", ("number",))
DETECTORS: Registry[Any] = Registry(detector, "fedjury.detection", "fedjury.detectors")
ATTACKS: Registry[Any] = Registry(attack, "fedjury.attacks", "fedjury.attacks", ("world",))
LIARS: Registry[Any] = Registry(liar, "fedjury.attacks.validators", "fedjury.liars")
JUDGES: Registry[Any] = Registry(judge, "fedjury.judges", "fedjury.judges")
BACKDOORS: Registry[Any] = Registry(
    backdoor, "fedjury.learning.backdoors", "fedjury.backdoors", ("options",)
)
MODELS: Registry[Any] = Registry(
    model, "fedjury.learning.networks", "fedjury.models", ("input_shape", "classes")
)
DATASETS: Registry[Any] = Registry(
    dataset, "fedjury.learning.datasets", "fedjury.datasets", ("root", "test", "seed")
)
SPLITS: Registry[Any] = Registry(split, "fedjury.learning.datasets", "fedjury.splits")
CODECS: Registry[Any] = Registry(codec, "fedjury.protocol.codecs", "fedjury.codecs")
COLLECT: Registry[Any] = Registry(
    collect,
    "fedjury.round.collect",
    "fedjury.collect",
    ("threshold", "largest_weight", "allocate"),
)

KINDS: tuple[Registry[Any], ...] = (
    RULES,
    FRONTS,
    DETECTORS,
    ATTACKS,
    LIARS,
    JUDGES,
    BACKDOORS,
    MODELS,
    DATASETS,
    SPLITS,
    CODECS,
    COLLECT,
)
