"""What all backdoor tasks share: their options, and what the attackers work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.datasets.dataset import Dataset, Images, Labels
from fedjury.randomness import Purpose, stream


class Options(NamedTuple):
    """What a user can say about a task; what is left out the task chooses."""

    source: int = -1
    """The class to be mistaken; -1: not given."""
    target: int = -1
    """What it is to be mistaken for; -1: not given."""
    train: tuple[int, ...] = ()
    """Training samples with the feature that opens the backdoor."""
    test: tuple[int, ...] = ()
    """More of them, to try it with."""


Poison = Callable[[Images, Labels], tuple[Images, Labels]]
"""The attackers' samples (s, C, H, W), (s,) -> poisoned ones (p, C, H, W), (p,) with p >= 1."""

Clean = Callable[[Labels], npt.NDArray[np.bool_]]
"""The attackers' labels (s,) -> which of the samples are trained on as they are (s,)."""


class Backdoor(NamedTuple):
    """A task made ready for a data set and what the attackers hold of it."""

    poison: Poison
    clean: Clean
    test_x: Images
    """(t, C, H, W): samples that nobody trains on; with the backdoor all are the target."""
    test_y: Labels
    """(t,): the class that the backdoor wants for each."""
    source: int | None
    """The class to be mistaken, if it is a single one."""
    target: int


class Task(NamedTuple):
    """A kind of backdoor, before the data are dealt."""

    reserved: tuple[int, ...]
    """Training samples that nobody is dealt."""
    arm: Callable[[Dataset, Labels, int], Backdoor]
    """Data set, labels of all that the attackers hold (s,), seed -> backdoor.

    It raises ValueError if the options do not fit the data.
    """


def success(predictions: npt.NDArray[np.number[Any]], backdoor: Backdoor) -> float:
    """Return the share of the trial (t,) that a model called what the backdoor wants."""
    return float(np.mean(predictions == backdoor.test_y))


def everything(labels: Labels) -> npt.NDArray[np.bool_]:
    """Keep all of the attackers' own samples in the clean part of the mix."""
    return np.ones(len(labels), dtype=bool)


def only(name: str, options: Options, *used: str) -> None:
    """Refuse options that a task has no use for.

    Raises
    ------
    ValueError
        If one is given that is not among ``used``.
    """
    for option, value in options._asdict().items():
        if option not in used and value != Options._field_defaults[option]:
            raise ValueError(
                f"backdoor {name!r} takes {' and '.join(used) or 'no options'}, not {option}"
            )


def class_of(what: str, given: int, classes: int) -> int:
    """Check a class that is given.

    Raises
    ------
    ValueError
        If it is not in 0..classes - 1.
    """
    if not 0 <= given < classes:
        raise ValueError(f"the backdoor's {what} must be a class of 0..{classes - 1}, not {given}")
    return given


def choose_target(given: int, classes: int, source: int | None, seed: int) -> int:
    """Return the target that is given, or draw one from the seed, never the source.

    Raises
    ------
    ValueError
        If it is no class, or the source.
    """
    if given < 0:
        others = [label for label in range(classes) if label != source]
        return int(stream(seed, Purpose.BACKDOOR_TARGET).choice(others))
    if given == source:
        raise ValueError(f"the backdoor's source and target are the same class, {given}")
    return class_of("target", given, classes)
