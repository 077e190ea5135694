"""A data set of the user's own: one .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable, Images, Labels, scaled

if TYPE_CHECKING:
    from pathlib import Path

    Arrays = dict[str, npt.NDArray[Any]]

MOST_CLASSES = 10_000
"""Labels beyond are no classes but ids: a network has an output for each."""

FULL = (1, 3, 7, 15, 16, 31, 63, 127, 255)
"""What white may be in bytes: 1 to 8 bits, and the 16 of scikit-learn's digits."""

LEAST_FULL = 1 / 64
"""The brightest pixel of floating point that is no sign of having been scaled twice."""

SHOWN = 5
"""Classes that a sentence lists at most."""

KEYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)


def load(path: Path) -> Dataset:
    """Load a data set from a file.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, either uint8 or floats
    in [0, 1]. Bytes are divided by 255; if all of them are below 128, by what white may be then
    (``FULL``), and a note says so. Labels are (N,) whole numbers from 0; the largest one says how
    many classes there are, and notes say which of these have no sample.

    Raises
    ------
    DatasetUnavailable
        If there is no such file.
    ValueError
        If it is not such a file; the message says which array is wrong and how.
    """
    if not path.is_file():
        raise DatasetUnavailable(str(path), "there is no such file")
    try:
        arrays = _read(path)
        white, notes = _white([arrays["x_train"], arrays["x_test"]])
        x_train, y_train = _part(arrays, "train", white)
        x_test, y_test = _part(arrays, "test", white)
        _check_alike(x_train, x_test)
        classes = _classes(y_train, y_test)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    notes += _on_labels(classes, y_train, y_test)
    told = tuple(f"{path}: {note}" for note in notes)
    return Dataset(path.stem, classes, x_train, y_train, x_test, y_test, told)


def _read(path: Path) -> Arrays:
    try:
        # Pickles could run code, so arrays of objects are refused.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file]
            if not missing:
                return {key: file[key] for key in KEYS}
    except Exception as error:
        raise ValueError(f"not a readable .npz file ({error})") from error
    raise ValueError(f"lacks {', '.join(missing)} (needs {', '.join(KEYS)})")


def _white(parts: list[npt.NDArray[Any]]) -> tuple[int, list[str]]:
    """Return by what bytes are to be divided, in all parts alike, and what is odd about values."""
    brightest = {
        kind: max(
            (part.max() for part in parts if part.size and part.dtype.kind == kind), default=0
        )
        for kind in "uf"
    }
    notes = []
    if 0 < brightest["f"] < LEAST_FULL:
        notes = [f"no pixel is above {brightest['f']:.4f}: they may have been scaled twice"]
    largest = int(brightest["u"])
    white = next((full for full in FULL if full >= largest > 0), FULL[-1])
    if white < FULL[-1]:
        notes.append(
            f"its images are bytes from 0 to {largest}: they are divided by {white}, not by 255 "
            "(if white is 255 all the same, save them as floating point in [0, 1])"
        )
    return white, notes


def _part(arrays: Arrays, part: str, white: int) -> tuple[Images, Labels]:
    images = _images(f"x_{part}", arrays[f"x_{part}"], white)
    labels = _labels(f"y_{part}", arrays[f"y_{part}"])
    if len(images) != len(labels):
        raise ValueError(
            f"x_{part} has {len(images):,} images but y_{part} has {len(labels):,} labels"
        )
    return images, labels


def _check_alike(x_train: Images, x_test: Images) -> None:
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            "images of x_train and x_test differ in shape (C, H, W): "
            f"{x_train.shape[1:]} and {x_test.shape[1:]}"
        )


def _images(key: str, raw: npt.NDArray[Any], white: int) -> Images:
    if raw.size == 0:
        raise ValueError(f"{key} is empty")
    images = _channels_first(key, raw)
    if raw.dtype == np.uint8:
        return scaled(images, white)
    if raw.dtype.kind != "f":
        raise ValueError(
            f"{key} must be uint8 or floating point, not {raw.dtype} (bytes: {key}.astype('uint8'))"
        )
    # Written so that NaN fails too.
    if not (raw.min() >= 0 and raw.max() <= 1):
        raise ValueError(
            f"{key} must lie in [0, 1] as floating point, not in [{raw.min()}, {raw.max()}]"
        )
    return np.ascontiguousarray(images, dtype=np.float32)


def _channels_first(key: str, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(f"{key} must be (N, H, W), (N, H, W, C) or (N, C, H, W): {images.shape}")
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first and last:
        raise ValueError(f"{key} may be (N, C, H, W) or (N, H, W, C), both fit: {images.shape}")
    if not first and not last:
        raise ValueError(f"{key} has no axis of 1 or 3 channels: {images.shape}")
    return images if first else images.transpose(0, 3, 1, 2)


def _labels(key: str, raw: npt.NDArray[Any]) -> Labels:
    if raw.ndim != 1 or raw.dtype.kind not in "iu":
        hint = ".argmax(axis=1)" if raw.ndim == 2 and raw.shape[1] > 1 else ".ravel().astype(int)"
        raise ValueError(
            f"{key} must be (N,) whole numbers, not {raw.shape} of {raw.dtype} (try {key}{hint})"
        )
    if not raw.size:
        raise ValueError(f"{key} is empty")
    if raw.min() < 0:
        raise ValueError(f"{key} has a negative label: {raw.min()}; classes count from 0")
    if raw.max() >= MOST_CLASSES:  # before anything is made that has so many entries
        raise ValueError(
            f"{key} has a label {raw.max()}, and there can be {MOST_CLASSES:,} classes at most; "
            "if labels are ids, number them: np.unique(labels, return_inverse=True)[1]"
        )
    return raw.astype(np.int64)


def _classes(*labels: Labels) -> int:
    return int(max(part.max() for part in labels)) + 1


def _on_labels(classes: int, y_train: Labels, y_test: Labels) -> list[str]:
    """Say which classes have no samples, as in labels that count from 1 or have gaps."""
    trained, tested = (np.bincount(part, minlength=classes) > 0 for part in (y_train, y_test))
    there = trained | tested
    if not there[0] and there[1:].all():
        return ["no sample is of class 0; if its labels count from 1, subtract 1 from them"]
    notes = []
    if not there.all():
        notes = [f"of {classes:,} classes, {_listed(~there)} no sample at all"]
    if (tested & ~trained).any():
        notes.append(f"{_listed(tested & ~trained)} test samples but none to train on")
    return notes


def _listed(chosen: npt.NDArray[np.bool_]) -> str:
    """Name a few classes, and how many more there are, with the verb that fits."""
    numbers = np.flatnonzero(chosen)
    if len(numbers) == 1:
        return f"class {numbers[0]} has"
    more = f" and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
    return f"classes {', '.join(map(str, numbers[:SHOWN]))}{more} have"
