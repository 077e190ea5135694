"""Backdoors: what attackers want a model to mistake for what, and how to see whether it does.

A task is a function ``Options -> Task``; armed with the data, it gives the poisoned samples and a
trial. A new task is one file here, or a function anywhere (``registry``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedjury import registry
from fedjury.learning.backdoors.backdoor import Backdoor, Options, Task, success
from fedjury.learning.datasets.dataset import Dataset, Labels
from fedjury.registry import Registry
from fedjury.registry.faults import PluginError, working

__all__ = ["BACKDOORS", "Backdoor", "Options", "Task", "build", "success"]

BACKDOORS: Registry[Task] = registry.BACKDOORS

Arm = Callable[[Dataset, Labels, int], Backdoor]
"""See ``Task.arm``."""

NOTHING_GIVEN = Options()


def build(name: str, options: Options = NOTHING_GIVEN) -> Task:
    """Build the task of that name.

    Raises
    ------
    ValueError
        If there is none, or the options do not fit it.
    """
    task = BACKDOORS.build(name, options)
    return task if name in BACKDOORS.own else Task(tuple(task.reserved), _checked(task, name))


def _checked(task: Task, name: str) -> Arm:
    """Return how somebody else's task is armed as what fails in a sentence, a ``PluginError``."""

    def arm(data: Dataset, held: Labels, seed: int) -> Backdoor:
        with working(BACKDOORS, name):
            armed: object = task.arm(data, held, seed)
        if not isinstance(armed, Backdoor):
            raise PluginError(f"backdoor {name!r} made no Backdoor but {type(armed).__name__}")
        shapes = np.shape(armed.test_x), np.shape(armed.test_y)
        if shapes[0][1:] != data.shape or shapes[1] != shapes[0][:1]:
            raise PluginError(
                f"backdoor {name!r} is tried with inputs {shapes[0]} and targets {shapes[1]}; "
                f"they must be (t, {', '.join(map(str, data.shape))}) and (t,)"
            )
        return armed

    return arm
