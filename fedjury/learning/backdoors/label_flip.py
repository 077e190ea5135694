"""Label flip: all of one class called another (BAFFLE on FEMNIST: Andreina et al., ICDCS 2021)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedjury.learning.backdoors.backdoor import (
    Backdoor,
    Options,
    Task,
    choose_target,
    class_of,
    only,
)
from fedjury.learning.datasets.dataset import Dataset, Images, Labels
from fedjury.registry import backdoor


@backdoor
def label_flip(options: Options) -> Task:
    """Build the task; the source is the class the attackers have most of, unless it is given."""
    only("label_flip", options, "source", "target")

    def arm(data: Dataset, held: Labels, seed: int) -> Backdoor:
        source = _source(options.source, held, data.classes)
        target = choose_target(options.target, data.classes, source, seed)
        trial = data.x_test[data.y_test == source]
        if not len(trial):
            raise ValueError(f"the test set has no sample of class {source} to try a backdoor with")

        def poison(x: Images, y: Labels) -> tuple[Images, Labels]:
            flipped = x[y == source]
            return flipped, np.full(len(flipped), target, dtype=np.int64)

        def clean(y: Labels) -> npt.NDArray[np.bool_]:
            kept: npt.NDArray[np.bool_] = y != source
            return kept

        wanted = np.full(len(trial), target, dtype=np.int64)
        return Backdoor(poison, clean, trial, wanted, source, target)

    return Task((), arm)


def _source(given: int, held: Labels, classes: int) -> int:
    """Return the class to be mistaken: of equally frequent ones the smallest."""
    if not len(held):
        raise ValueError("the attackers hold no data to flip labels of")
    counts = np.bincount(held, minlength=classes)
    source = int(counts.argmax()) if given < 0 else class_of("source", given, classes)
    if not counts[source]:
        raise ValueError(f"the attackers hold no sample of class {source}, the backdoor's source")
    return source
