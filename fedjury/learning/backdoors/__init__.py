"""Backdoors: what attackers want a model to mistake for what, and how to see whether it does.

A task is a function ``Options -> Task``; armed with the data, it gives the poisoned samples and a
trial. A new task is one file here, or a function anywhere (``registry``).
"""

from __future__ import annotations

from fedjury import registry
from fedjury.learning.backdoors.backdoor import Backdoor, Options, Task, success
from fedjury.registry import Registry

__all__ = ["BACKDOORS", "Backdoor", "Options", "Task", "build", "success"]

BACKDOORS: Registry[Task] = registry.BACKDOORS

NOTHING_GIVEN = Options()


def build(name: str, options: Options = NOTHING_GIVEN) -> Task:
    """Build the task of that name.

    Raises
    ------
    ValueError
        If there is none, or the options do not fit it.
    """
    return BACKDOORS.build(name, options)
