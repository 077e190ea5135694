"""What the rounds that are fuzzed are played under: rules, votes, detectors, limits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedjury import detection, judges, rules
from fedjury.config.sections import Detection
from fedjury.config.settings import load
from fedjury.detection.state import DetectionPolicy
from fedjury.judges.pooled import Pool, most_counts
from fedjury.judges.server_validator import ServerValidator
from fedjury.learning.error_profiles import Profile
from fedjury.protocol.messages import Vector
from fedjury.protocol.record import Quality
from fedjury.round.state import RoundConfig

AGENTS = tuple(f"agent-{number}" for number in range(6))
ROUNDS, ATTEMPTS = 8, 3


def watch(quarantine: bool, newcomers: int, *names: str) -> DetectionPolicy:
    """Let some detectors look."""
    return DetectionPolicy(
        {name: detection.build(name) for name in names},
        Detection(quarantine=quarantine, offences=1, readmission_after=1, readmissions=1),
        newcomers=newcomers,
        update_sums=True,
    )


SHORT = {
    "run.rounds": ROUNDS,
    "run.seed": 3,
    "aggregation.server_lr": 1.0,
    "collect.attempts": ATTEMPTS,
    "collect.wait": False,
    "collect.seconds": 10.0,
    "validation.seconds": 5.0,
    "validation.validators": 0,
    "validation.look_back": 4,
}
"""Settings of short phases."""


def policy(
    rule: str = "mean", changes: Mapping[str, object] | None = None, **parts: object
) -> RoundConfig:
    """Make a policy with short phases, of what differs."""
    settings = load(overrides={**SHORT, **(changes or {})})
    return RoundConfig(
        rule=rules.build(rule),
        measure=measure,
        run=settings.run,
        aggregation=settings.aggregation,
        sampling=settings.sampling,
        collect=settings.collect,
        validation=settings.validation,
        limits=settings.limits,
        groups=settings.groups,
        **parts,  # type: ignore[arg-type]
    )


def votes(**changes: object) -> dict[str, object]:
    """Return settings of section validation."""
    return {f"validation.{key}": value for key, value in changes.items()}


def measure(weights: Vector) -> Quality:
    """Stand for the measurement of a model."""
    return Quality(float(np.isfinite(weights).mean()))


def profile(weights: Vector) -> Profile:
    """Stand for the errors of a model."""
    result: Profile = np.rint(9 * np.abs(np.nan_to_num(np.tanh(weights)))).astype(np.int64)
    return result


def server(*, with_counts: bool = False) -> ServerValidator:
    """Let the server vote."""
    judge = judges.build("calibrated", minimum_history=4)
    return ServerValidator(profile, judge, 10, 5, with_counts=with_counts)


def pool(malicious: int) -> Pool:
    """Judge what validators counted; the judge of its short history."""
    judge = judges.build("calibrated", minimum_history=4)
    return Pool(judge, malicious, look_back=4, history=4, most=most_counts(4, 0))


DETECTORS = tuple(detection.DETECTORS)
LET_IN = {"limits.finite": False}
POLICIES = (
    policy(),
    policy("median", votes(validators=3, quorum=2)),
    policy(
        "trimmed_mean",
        {"collect.min_updates": 4, "collect.threshold": 5, "sampling.client_fraction": 0.8},
    ),
    policy("krum", votes(piggy_back=True, quorum=2)),
    policy("mean", votes(piggy_back=True, decide="pooled"), pool=pool(0)),
    policy("mean", LET_IN | votes(validators=2, quorum=1), server_validator=server()),
    policy(
        "geometric_median",
        votes(validators=3, decide="pooled", tolerated_malicious=1),
        server_validator=server(with_counts=True),
        pool=pool(1),
    ),
    policy("foolsgold", votes(validators=3, quorum=2), detection=watch(True, 0, *DETECTORS)),
    policy(
        "centered_clipping",
        votes(piggy_back=True, quorum=3) | {"collect.min_updates": 2},
        detection=watch(False, 1, "burst", "dissent"),
    ),
    policy("multi_krum", LET_IN | {"collect.threshold": 2}),
    policy("median", votes(warm_up=2, validators=2, quorum=1), forced={2: AGENTS[:2]}),
    policy(
        "mean",
        {"groups.size": 2} | votes(on="groups", validators=3, quorum=2, groups_each=2),
    ),
    policy(
        "median",
        LET_IN
        | {"groups.size": 2}
        | votes(on="both", validators=3, quorum=1, judge="robust", minimum_history=3),
    ),
)
