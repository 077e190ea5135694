"""Draw what judges say of a recorded attack: python -m tools.judge_pictures (docs/judge-*.png).

The attack is the one of tests/unit/test_boiling_frog.py: nine strikes that the calibrated judge
accepted, and what the other judges say of the same candidates after the same accepted models.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fedjury.judges import JUDGES, build

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "tests" / "unit" / "recorded" / "boiling_frog.npz"
DRAWN = ("lof", "calibrated", "robust")


def draw(name: str) -> Path:
    """Draw each validator's score over its threshold, strike by strike, and return the file."""
    with np.load(RECORDED, allow_pickle=False) as file:
        accepted, candidates = (file[part].astype(np.int64) for part in ("accepted", "candidates"))
        backdoor = file["backdoor"]
    judge = build(name)
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    labels = []
    for strike, (past, new) in enumerate(zip(accepted, candidates, strict=True)):
        found = judge(past, new)
        ratio = np.maximum(found.score / found.threshold, 0.1)
        colours = ["C3" if poisoned else "C0" for poisoned in found.poisoned]
        axes.scatter(strike + np.linspace(-0.25, 0.25, len(ratio)), ratio, c=colours, s=14)
        labels.append(f"{backdoor[strike]:.0%}\n{found.poisoned.sum()} of {len(ratio)}")
    axes.axhline(1, color="black", lw=1)
    axes.set_yscale("log")
    axes.set_yticks([0.1, 0.5, 1, 2, 5, 10], ["≤ 0.1", "0.5", "1", "2", "5", "10"])
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    axes.set(ylabel="score / threshold", xlabel="backdoor of the strike, validators that object")
    axes.set_title(f"{name}: nine strikes that calibrated let in, ten validators each", fontsize=10)
    path = ROOT / "docs" / f"judge-{name}.png"
    figure.savefig(path, dpi=100)
    return path


if __name__ == "__main__":
    assert set(DRAWN) <= set(JUDGES)
    for name in DRAWN:
        print(draw(name).relative_to(ROOT))
