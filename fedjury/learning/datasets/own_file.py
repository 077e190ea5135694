"""A file of the user's own: a table, or arrays. For a fleet it is a data set, for a device samples.

Inputs may have any shape. Those of whole numbers, like the ids of words, stay whole numbers. What
is to be learnt are classes if it is whole numbers, and numbers if it is floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from fedjury.learning.datasets import npz, table
from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable, Inputs, Targets
from fedjury.randomness import Purpose, stream

SUFFIXES = (".npz", *table.SUFFIXES)

HELD_OUT = 5
"""Where too few samples are there to hold out as many as wanted, one in so many is."""

Learn = Literal["auto", "classes", "numbers"]


class OwnFile(NamedTuple):
    """How a file is to be read."""

    target: str = ""
    """Of a table, the column to be learnt."""
    inputs: Sequence[str] = ()
    """Of a table, the columns to learn from; empty: all others."""
    learn: Learn = "auto"
    raw: bool = False
    """Of arrays: they are no images, whatever their shape."""


class Samples(NamedTuple):
    """What a device holds."""

    x: Inputs
    """(n, ...): float32, or int64 where they are whole numbers."""
    y: Targets
    """(n,): int64 of classes, float32 of numbers."""
    notes: tuple[str, ...] = ()


def is_own(name: str) -> bool:
    """Say whether a data set's name is a file of the user's own."""
    return name.endswith(SUFFIXES)


def samples(path: Path, how: OwnFile = OwnFile()) -> Samples:  # noqa: B008 - it is immutable
    """Read what a device holds; a file without samples is a device without.

    Raises
    ------
    ValueError
        If there is no such file, or it cannot be read; one sentence.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if path.suffix == ".npz":
        return Samples(*npz.samples(path, how.learn, raw=how.raw))
    found = table.read(path, how.target, how.inputs)
    return Samples(found.x, targets(f"{path}, column {how.target!r}", found.y, how.learn))


def load(path: Path, how: OwnFile, test: int, seed: int) -> Dataset:
    """Read a data set; where it has no test part, so many samples are held out, by the seed.

    Raises
    ------
    DatasetUnavailable
        If there is no such file.
    ValueError
        If it cannot be read, or has too few samples; one sentence.
    """
    if not path.is_file():
        raise DatasetUnavailable(str(path), "there is no such file")
    if path.suffix == ".npz" and npz.has_test_part(path):
        return npz.load(path, how.learn, raw=how.raw)
    x, y, notes = samples(path, how)
    if len(y) < 2:
        raise ValueError(
            f"{path} has {'one sample' if len(y) else 'no samples'}: a data set needs two at "
            "least, one to train on and one to measure with"
        )
    count = min(test, max(1, len(y) // HELD_OUT))
    if count < test:
        notes += (f"{path}: of its {len(y):,} samples {count:,} are held out, not {test:,}",)
    order = stream(seed, Purpose.HOLD_OUT).permutation(len(y))
    held, kept = np.sort(order[:count]), np.sort(order[count:])
    classes = int(y.max()) + 1 if y.dtype.kind == "i" else 0
    if classes:
        notes += tuple(f"{path}: {note}" for note in npz.on_labels(classes, y[kept], y[held]))
    return Dataset(path.stem, classes, x[kept], y[kept], x[held], y[held], notes)


def targets(what: str, values: npt.NDArray[Any], learn: Learn) -> Targets:
    """Return what is to be learnt as classes or as numbers, (n,).

    Raises
    ------
    ValueError
        If these cannot be classes.
    """
    if not len(values):
        return values.astype(np.int64)
    if npz.learns_numbers(learn, values):
        return npz.numbers(what, values)
    if values.dtype.kind == "f" and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return npz.labels(what, values)
