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
    "GROUP_JUDGES",
    "JUDGES",
    "KINDS",
    "LOSSES",
    "METRICS",
    "MODELS",
    "OPTIMIZERS",
    "PRE_AGGREGATIONS",
    "RULES",
    "SPLITS",
    "VOTE_ATTACKS",
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
    "group_judge",
    "judge",
    "loss",
    "metric",
    "model",
    "optimizer",
    "pre_aggregation",
    "rule",
    "split",
    "unknown",
    "vote_attack",
]

ATTACK_FACTS = frozenset({"report", "holds_data", "colludes", "hides_backdoor"})

rule = Mark("rule", frozenset({"needs", "compares_all"}))
pre_aggregation = Mark("pre_aggregation", frozenset({"compares_all"}), words="pre-aggregation")
detector = Mark("detector", frozenset({"report", "needs"}))
attack = Mark("attack", ATTACK_FACTS)
vote_attack = Mark("vote_attack", words="vote attack")
judge = Mark("judge")
group_judge = Mark("group_judge", words="group judge")
backdoor = Mark("backdoor")
model = Mark("model")
loss = Mark("loss")
metric = Mark("metric")
optimizer = Mark("optimizer")
dataset = Mark("dataset", words="data set")
split = Mark("split")
codec = Mark("codec")
collect = Mark("collect", words="collect strategy")

# Names of packages and not the packages, for this module is imported by them all.
RULES: Registry[Any] = Registry(rule, "fedjury.rules", "fedjury.rules")
PRE_AGGREGATIONS: Registry[Any] = Registry(
    pre_aggregation, "fedjury.rules", "fedjury.pre_aggregations", ("number",)
)
DETECTORS: Registry[Any] = Registry(detector, "fedjury.detection", "fedjury.detectors")
ATTACKS: Registry[Any] = Registry(
    attack, "fedjury.attacks", "fedjury.attacks", ("attack",), ()
)  # a function, or a Collusion: see ``fedjury.attacks.build``
VOTE_ATTACKS: Registry[Any] = Registry(
    vote_attack, "fedjury.attacks.validators", "fedjury.vote_attacks"
)
JUDGES: Registry[Any] = Registry(judge, "fedjury.judges", "fedjury.judges")
GROUP_JUDGES: Registry[Any] = Registry(group_judge, "fedjury.judges", "fedjury.group_judges")
BACKDOORS: Registry[Any] = Registry(
    backdoor, "fedjury.learning.backdoors", "fedjury.backdoors", ("options",), ("reserved", "arm")
)
MODELS: Registry[Any] = Registry(
    model,
    "fedjury.learning.networks",
    "fedjury.models",
    ("input_shape", "classes"),
    ("__call__", "named_parameters", "state_dict", "eval"),
)
LOSSES: Registry[Any] = Registry(loss, "fedjury.learning.losses", "fedjury.losses")
METRICS: Registry[Any] = Registry(metric, "fedjury.learning.metrics", "fedjury.metrics")
OPTIMIZERS: Registry[Any] = Registry(
    optimizer,
    "fedjury.learning.optimizers",
    "fedjury.optimizers",
    ("parameters", "learning_rate"),
    ("zero_grad", "step"),
)
DATASETS: Registry[Any] = Registry(
    dataset,
    "fedjury.learning.datasets",
    "fedjury.datasets",
    ("root", "test", "seed"),
    ("x_train", "y_train", "x_test", "y_test", "classes", "fingerprint"),
)
SPLITS: Registry[Any] = Registry(split, "fedjury.learning.datasets", "fedjury.splits")
CODECS: Registry[Any] = Registry(
    codec, "fedjury.protocol.codecs", "fedjury.codecs", made=("size", "encode", "decode", "sender")
)
COLLECT: Registry[Any] = Registry(
    collect,
    "fedjury.round.collect",
    "fedjury.collect",
    ("threshold", "largest_weight", "allocate"),
    ("begin", "refusal", "awaited", "enough", "contributions"),
)

KINDS: tuple[Registry[Any], ...] = (
    RULES,
    PRE_AGGREGATIONS,
    DETECTORS,
    ATTACKS,
    VOTE_ATTACKS,
    JUDGES,
    GROUP_JUDGES,
    BACKDOORS,
    MODELS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    DATASETS,
    SPLITS,
    CODECS,
    COLLECT,
)
