"""The last candidate of a run that was made with noise, and how often there was one, on disk.

One file holds both, written before anybody is told of the candidate. It stays when its round is
over: for as long as the run lasts it says what has been spent.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fedjury.aggregator.durable_files import damaged, readable
from fedjury.round.release import Release

RELEASE = "release.safetensors"
"""Its name in the folder of the run."""


def packed(release: Release) -> bytes:
    """Write a noisy candidate and what is known of it, as a file holds it."""
    keys = sorted(release.rule_state)
    arrays = {f"rule.{key}": np.asarray(release.rule_state[key]) for key in keys}
    note = {
        "round": release.round,
        "attempt": release.attempt,
        "version": release.version,
        "why": release.why,
        "contributors": release.contributors,
        "rule": release.rule,
        "keys": keys,
        "releases": release.releases,
    }
    weights = np.ascontiguousarray(release.candidate)
    return save({"weights": weights, **arrays}, metadata={"release": json.dumps(note)})


def unpacked(file: Path, size: int | None = None) -> Release:
    """Read it; ``size``: parameters of a model, where that is known.

    Raises
    ------
    StoreError
        If the file is damaged: without it nobody knows what has been spent.
    """
    readable(file)
    try:
        with safe_open(file, "numpy") as opened:
            note = json.loads(opened.metadata()["release"])
            weights = opened.get_tensor("weights")
            if weights.dtype != np.float32 or weights.shape != (size or len(weights),):
                raise ValueError(f"{weights.dtype} of shape {weights.shape}")
            return Release(
                round=int(note["round"]),
                attempt=int(note["attempt"]),
                version=int(note["version"]),
                candidate=weights,
                why=str(note["why"]),
                contributors=tuple(map(str, note["contributors"])),
                rule=str(note["rule"]),
                rule_state={key: opened.get_tensor(f"rule.{key}") for key in note["keys"]},
                releases=tuple((float(noise), int(n)) for noise, n in note["releases"]),
            )
    except Exception as why:  # of safetensors, JSON, NumPy or the system
        raise damaged(file, why) from why
