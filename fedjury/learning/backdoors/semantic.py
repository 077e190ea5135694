"""Semantic backdoor: pictures with a rare feature, as they are, called something else.

A model that has it mistakes cars before a striped wall, say, and nothing else (Bagdasaryan et
al., AISTATS 2020). Nobody is dealt the pictures: the attackers alone have them.
"""

from __future__ import annotations

import numpy as np

from fedjury.learning.backdoors.backdoor import Backdoor, Options, Task, class_of, everything, only
from fedjury.learning.datasets.dataset import Dataset, Images, Labels
from fedjury.registry import backdoor


@backdoor
def semantic(options: Options) -> Task:
    """Build the task of training samples ``train`` called ``target``, tried with ``test``.

    Raises
    ------
    ValueError
        If one of the three is not given, or a sample comes twice.
    """
    only("semantic", options, "target", "train", "test")
    if options.target < 0 or not options.train or not options.test:
        raise ValueError("backdoor 'semantic' needs a target, and samples to train and to test")
    reserved = (*options.train, *options.test)
    if len(set(reserved)) < len(reserved):
        twice = next(i for i in reserved if reserved.count(i) > 1)
        raise ValueError(f"sample {twice} comes twice in the backdoor's train and test")

    def arm(data: Dataset, _held: Labels, _seed: int) -> Backdoor:
        target = class_of("target", options.target, data.classes)
        _check(reserved, target, data)
        x, trial = data.x_train[list(options.train)], data.x_train[list(options.test)]
        y = np.full(len(x), target, dtype=np.int64)

        def poison(_x: Images, _y: Labels) -> tuple[Images, Labels]:
            return x, y

        classes = np.unique(data.y_train[list(reserved)])
        source = int(classes[0]) if len(classes) == 1 else None
        wanted = np.full(len(trial), target, dtype=np.int64)
        return Backdoor(poison, everything, trial, wanted, source, target)

    return Task(reserved, arm)


def _check(reserved: tuple[int, ...], target: int, data: Dataset) -> None:
    """Refuse samples that are not there, or that the target is right for."""
    last = len(data.y_train) - 1
    for i in reserved:
        if not 0 <= i <= last:
            raise ValueError(f"the backdoor's sample {i} is none of the training set's 0..{last}")
        if data.y_train[i] == target:
            raise ValueError(f"the backdoor's sample {i} is of class {target} already, the target")
