"""A recorded attack that the calibrated judge lets in step by step, and the robust one does not.

Fashion-MNIST, an mlp, the plain mean, seed 3: before every third round an attacker asked the
calibrated judge on all its data how strong a strike would pass. The file holds the nine strikes
that took (backdoor .63 to .99), all of them accepted: for each the error counts of the ten
validators that voted, of the 21 models accepted before, seven of them struck, and of the candidate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedjury.judges import build

QUORUM = 5


@pytest.fixture(scope="module")
def frog():
    """Return what is recorded: accepted (9, 10, 21, 20), candidates (9, 10, 20), backdoor (9,)."""
    with np.load(
        Path(__file__).parent / "recorded" / "boiling_frog.npz", allow_pickle=False
    ) as file:
        return {name: file[name].astype(np.float64) for name in file.files}


def flags(name, frog):
    """Count the validators that call each strike poisoned, (9,)."""
    accepted, candidates = (frog[part].astype(np.int64) for part in ("accepted", "candidates"))
    judge = build(name)
    return [
        int(judge(past, new).poisoned.sum()) for past, new in zip(accepted, candidates, strict=True)
    ]


def test_the_calibrated_judge_lets_all_strikes_in(frog):
    """What it accepted has raised its limits: at most two of ten object to a backdoor of .63."""
    assert frog["backdoor"].min() >= 0.5
    assert flags("calibrated", frog) == [2, 2, 0, 0, 0, 0, 0, 0, 0]


def test_the_robust_judge_rejects_each_of_them_after_the_same_history(frog):
    """Though a third of its history is poisoned."""
    assert min(flags("robust", frog)) >= QUORUM + 2
