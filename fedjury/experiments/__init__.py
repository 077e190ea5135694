"""The experiments of papers, by name. A new one is one file and one line here."""

from __future__ import annotations

from typing import Any

from fedjury.experiments.engine.experiment import Experiment
from fedjury.experiments.papers import (
    baffle_adaptive,
    baffle_bytes,
    baffle_early,
    baffle_liars,
    baffle_quorum,
    baffle_stable,
    baffle_votes,
    detection,
    matrix,
    mpaf,
)

EXPERIMENTS: dict[str, Experiment[Any]] = {
    "baffle-stable": baffle_stable.EXPERIMENT,
    "baffle-quorum": baffle_quorum.EXPERIMENT,
    "baffle-early": baffle_early.EXPERIMENT,
    "baffle-adaptive": baffle_adaptive.EXPERIMENT,
    "baffle-liars": baffle_liars.EXPERIMENT,
    "baffle-bytes": baffle_bytes.EXPERIMENT,
    "baffle-votes": baffle_votes.EXPERIMENT,
    "mpaf": mpaf.EXPERIMENT,
    "detection": detection.EXPERIMENT,
    "matrix": matrix.EXPERIMENT,
}
