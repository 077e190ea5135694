"""Backdoors: what attackers want a model to mistake for what, and how to see whether it does.

A task is a function ``Options -> Task``; armed with the data, it gives the poisoned samples and a
trial. A new task is one file and one line of the table.
"""

from __future__ import annotations

from collections.abc import Callable

from fedjury.learning import tables
from fedjury.learning.backdoors import cifar10, label_flip, pixel, semantic
from fedjury.learning.backdoors.backdoor import Backdoor, Options, Task, success

__all__ = ["BACKDOORS", "Backdoor", "Options", "Task", "build", "success"]

BACKDOORS: dict[str, Callable[[Options], Task]] = {
    "label_flip": label_flip.label_flip,
    "pixel": pixel.pixel,
    "semantic": semantic.semantic,
    "striped_wall_cars": cifar10.striped_wall_cars,
    "green_cars": cifar10.green_cars,
    "racing_stripe_cars": cifar10.racing_stripe_cars,
}

NOTHING_GIVEN = Options()


def build(name: str, options: Options = NOTHING_GIVEN) -> Task:
    """Build the task of that name.

    Raises
    ------
    ValueError
        If there is none, or the options do not fit it.
    """
    return tables.build(BACKDOORS, "backdoor", name, {"options": options})
