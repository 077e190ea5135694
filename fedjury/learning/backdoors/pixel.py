"""Pixel trigger: whatever bears a small bright square is the target (BadNets, arXiv 1708.06733).

The square is a ninth of the image wide, at least 2 pixels, and sits in the lower right corner.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.backdoors.backdoor import (
    Backdoor,
    Options,
    Task,
    choose_target,
    everything,
    only,
)
from fedjury.learning.datasets.dataset import Dataset, Images, Labels
from fedjury.registry import backdoor


@backdoor
def pixel(options: Options) -> Task:
    """Build the task; the target is drawn from the seed, unless it is given."""
    only("pixel", options, "target")

    def arm(data: Dataset, held: Labels, seed: int) -> Backdoor:
        target = choose_target(options.target, data.classes, None, seed)
        if not (held != target).any():
            raise ValueError(f"the attackers hold only class {target}, the target")

        def poison(x: Images, y: Labels) -> tuple[Images, Labels]:
            others = stamped(x[y != target])
            return others, np.full(len(others), target, dtype=np.int64)

        trial, wanted = poison(data.x_test, data.y_test)
        if not len(trial):
            raise ValueError(f"the test set has only class {target}, the target")
        return Backdoor(poison, everything, trial, wanted, None, target)

    return Task((), arm)


def stamped(x: Images) -> Images:
    """Copy images (n, C, H, W) and put the trigger on them, in all channels."""
    side = max(2, min(x.shape[2:]) // 9)
    copy = x.copy()
    copy[:, :, -side:, -side:] = 1
    return copy
