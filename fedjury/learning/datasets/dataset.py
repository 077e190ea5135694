"""What a data set is, and the few steps that several loaders share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedjury.learning.error_profiles import bins_of, edges_of
from fedjury.randomness import Purpose, stream

Images = npt.NDArray[np.float32]
"""(N, C, H, W) float32 in [0, 1]."""

Labels = npt.NDArray[np.int64]
"""(N,) int64: classes counted from 0."""

Inputs = npt.NDArray[Any]
"""(N, ...): float32, of images in [0, 1]; or int64, like the ids of words."""

Targets = npt.NDArray[Any]
"""(N,): labels, or float32 where numbers are learnt."""

OFFLINE = (
    "mnist5k, digits, fashion-mnist (if Debian's package dataset-fashion-mnist is installed) "
    "or a path to an .npz, .csv or .parquet file of your own"
)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Inputs and targets, split into training and held-out ones.

    Images are (N, C, H, W) float32 with pixels in [0, 1] and no further normalisation; a file of
    the user's own may hold other inputs. ``y_*`` are (N,) int64 in [0, classes), or float32 if
    ``classes`` is 0. ``notes`` are sentences on what was found odd in them or had to be guessed,
    for people to read before anything starts.
    """

    name: str
    classes: int
    x_train: Inputs
    y_train: Targets
    x_test: Inputs
    y_test: Targets
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input; of an image channels, height and width."""
        return tuple(self.x_train.shape[1:])

    @property
    def kinds(self) -> tuple[Labels, int]:
        """Return for each training sample of what kind it is, (N,), and how many there are.

        Kinds are the classes; of numbers they are bins, each of about as many targets.
        """
        if self.classes:
            return self.y_train, self.classes
        edges = edges_of(self.y_train)
        return bins_of(self.y_train, edges), len(edges) - 1

    def fingerprint(self) -> dict[str, str]:
        """Return for each part how many samples it has, and a hash of them and of their order."""
        parts: dict[str, npt.NDArray[Any]] = {
            "training images": self.x_train,
            "training labels": self.y_train,
            "test images": self.x_test,
            "test labels": self.y_test,
        }
        return {name: f"{len(part):,} {_hash(part)}" for name, part in parts.items()}


def _hash(part: npt.NDArray[Any]) -> str:
    """Hash an array's shape, type and values, the same on every machine."""
    little = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
    hashed = hashlib.blake2b(f"{part.shape} {part.dtype.kind}".encode(), digest_size=8)
    hashed.update(little.data)
    return hashed.hexdigest()


class DatasetUnavailable(ValueError):  # noqa: N818 - it names a state of affairs, as the message does
    """A known data set that cannot be had on this machine, and what can be had instead."""

    def __init__(self, name: str, reason: str) -> None:
        # Both arguments go to the base class, so that the error survives pickling.
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"data set {self.name!r} is not available ({self.reason}); "
            f"these work without internet: {OFFLINE}"
        )


def scaled(images: npt.NDArray[np.uint8], white: int = 255) -> Images:
    """Scale bytes from 0 to ``white`` to [0, 1], any shape, contiguous in memory."""
    return np.divide(np.ascontiguousarray(images), white, dtype=np.float32)


def hold_out(
    name: str, images: Images, labels: Labels, classes: int, *, test: int, seed: int
) -> Dataset:
    """Shuffle a set that has no split of its own and hold back ``test`` samples, stratified.

    Every class gives test // classes samples, the first test % classes classes one more.

    Raises
    ------
    ValueError
        If a class would be left without a training or without a held-out sample.
    """
    most = classes * (int(np.bincount(labels, minlength=classes).min()) - 1)
    if not classes <= test <= most:
        raise ValueError(f"{name} can hold out {classes} to {most:,} test samples, not {test:,}")
    order = stream(seed, Purpose.HOLD_OUT).permutation(len(labels))
    quotas = test // classes + (np.arange(classes) < test % classes)
    held = np.zeros(len(labels), dtype=bool)
    for label, quota in enumerate(quotas):
        held[order[labels[order] == label][:quota]] = True
    kept, out = order[~held[order]], order[held[order]]
    return Dataset(name, classes, images[kept], labels[kept], images[out], labels[out])
