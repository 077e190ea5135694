"""Arrays of the user's own in an .npz file: x_train, y_train, x_test and y_test, or x and y."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fedjury.learning.datasets.dataset import (
    Dataset,
    DatasetUnavailable,
    Images,
    Inputs,
    Labels,
    Targets,
    scaled,
)

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
ALONE = ("x", "y")
"""Of samples without a test part."""

NO_IMAGES = "if these are no images, say so: data.raw = true, or --raw"
CHANNELS = (1, 3)


def load(path: Path, learn: str = "auto", *, raw: bool = False) -> Dataset:
    """Load a data set from a file.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, either uint8 or floats
    in [0, 1]. Bytes are divided by 255; if all of them are below 128, by what white may be then
    (``FULL``), and a note says so. Inputs with another number of axes that are no bytes, and all
    with ``raw``, are taken as they are.

    Labels are (N,) whole numbers from 0; the largest one says how many classes there are, and notes
    say which of these have no sample. Targets in floating point are numbers, without classes;
    ``learn`` can say which they are: classes or numbers.

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
        arrays = _read(path, KEYS)
        white, notes = _white([arrays["x_train"], arrays["x_test"]])
        read = numbers if learns_numbers(learn, arrays["y_train"], arrays["y_test"]) else labels
        x_train, y_train = _part(arrays, "_train", white, read, raw=raw)
        x_test, y_test = _part(arrays, "_test", white, read, raw=raw)
        _check_alike(x_train, x_test)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    classes = 0 if read is numbers else _classes(y_train, y_test)
    notes += on_labels(classes, y_train, y_test) if classes else []
    told = tuple(f"{path}: {note}" for note in notes)
    return Dataset(path.stem, classes, x_train, y_train, x_test, y_test, told)


def samples(
    path: Path, learn: str = "auto", *, raw: bool = False
) -> tuple[Inputs, Targets, tuple[str, ...]]:
    """Read the inputs and targets of a device, x and y or x_train and y_train; and what is odd.

    Raises
    ------
    ValueError
        As :func:`load`.
    """
    part = "" if set(ALONE) <= _keys(path) else "_train"
    try:
        arrays = _read(path, (f"x{part}", f"y{part}"))
        x, y = arrays[f"x{part}"], arrays[f"y{part}"]
        if x.shape[:1] == y.shape[:1] == (0,):
            return x.astype(np.float32), y.astype(np.int64), ()
        white, notes = _white([x])
        read = numbers if learns_numbers(learn, y) else labels
        x, y = _part(arrays, part, white, read, raw=raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return x, y, tuple(f"{path}: {note}" for note in notes)


def learns_numbers(learn: str, *targets: npt.NDArray[Any]) -> bool:
    """Say whether numbers are to be learnt: if so said, or the targets are floating point."""
    return learn == "numbers" or (learn == "auto" and all(y.dtype.kind == "f" for y in targets))


def has_test_part(path: Path) -> bool:
    """Say whether a file has what a data set has, unless it has x and y alone."""
    return not set(ALONE) <= _keys(path)


def _keys(path: Path) -> set[str]:
    """Return the names of the arrays in a file; none if it cannot be read."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return set(file)
    except Exception:  # whoever reads it will say so
        return set()


def _read(path: Path, keys: Sequence[str]) -> Arrays:
    try:
        # Pickles could run code, so arrays of objects are refused.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [key for key in keys if key not in file]
            if not missing:
                return {key: file[key] for key in keys}
    except Exception as error:
        raise ValueError(f"not a readable .npz file ({error})") from error
    raise ValueError(f"lacks {', '.join(missing)} (needs {', '.join(keys)})")


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


def _part(
    arrays: Arrays, part: str, white: int, read: Callable[[str, Targets], Targets], *, raw: bool
) -> tuple[Inputs, Targets]:
    x, y = f"x{part}", f"y{part}"
    plain = raw or (arrays[x].ndim not in (3, 4) and arrays[x].dtype != np.uint8)
    inputs = _plain(x, arrays[x]) if plain else _images(x, arrays[x], white)
    targets = read(y, arrays[y])
    if len(inputs) != len(targets):
        many, few = "inputs" if plain else "images", "targets" if read is numbers else "labels"
        raise ValueError(f"{x} has {len(inputs):,} {many} but {y} has {len(targets):,} {few}")
    return inputs, targets


def _check_alike(x_train: Inputs, x_test: Inputs) -> None:
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            "inputs of x_train and x_test differ in shape (images: C, H, W): "
            f"{x_train.shape[1:]} and {x_test.shape[1:]}"
        )
    if x_train.dtype != x_test.dtype:
        raise ValueError("of x_train and x_test one are whole numbers and one are not")


def _plain(key: str, raw: npt.NDArray[Any]) -> Inputs:
    """Take inputs (N, ...) as they are: whole numbers as int64, all others as float32."""
    if raw.size == 0:
        raise ValueError(f"{key} is empty")
    if raw.dtype.kind not in "iufb":
        raise ValueError(f"{key} must be numbers, not {raw.dtype}")
    shaped = raw[:, None] if raw.ndim == 1 else raw
    if raw.dtype.kind in "iu":
        return np.ascontiguousarray(shaped, dtype=np.int64)
    return _finite(key, shaped)


def numbers(key: str, raw: npt.NDArray[Any]) -> Targets:
    """Return targets (N,) or (N, 1) that are numbers, as (N,).

    Raises
    ------
    ValueError
        If they are none.
    """
    flat = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    if flat.ndim != 1 or flat.dtype.kind not in "iufb":
        raise ValueError(f"{key} must be (N,) numbers, not {raw.shape} of {raw.dtype}")
    if not flat.size:
        raise ValueError(f"{key} is empty")
    return _finite(key, flat)


def _finite(key: str, raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return values (N, ...) as float32."""
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(raw, dtype=np.float32)
    lost = ~np.isfinite(result).reshape(len(result), -1).all(axis=1)
    if lost.any():
        raise ValueError(
            f"{key} has a value that is not finite (NaN, infinity) in sample {lost.argmax():,}"
        )
    return result


def _images(key: str, raw: npt.NDArray[Any], white: int) -> Images:
    if raw.size == 0:
        raise ValueError(f"{key} is empty")
    images = _channels_first(key, raw)
    if raw.dtype == np.uint8:
        return scaled(images, white)
    if raw.dtype.kind != "f":
        raise ValueError(
            f"{key} must be uint8 or floating point, not {raw.dtype} (bytes: "
            f"{key}.astype('uint8')); {NO_IMAGES}"
        )
    # Written so that NaN fails too.
    if not (raw.min() >= 0 and raw.max() <= 1):
        raise ValueError(
            f"{key} must lie in [0, 1] as floating point, not in [{raw.min()}, {raw.max()}]; "
            f"{NO_IMAGES}"
        )
    return np.ascontiguousarray(images, dtype=np.float32)


def _channels_first(key: str, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise ValueError(
            f"{key} must be (N, H, W), (N, H, W, C) or (N, C, H, W): {images.shape}; {NO_IMAGES}"
        )
    first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
    if first and last:
        raise ValueError(f"{key} may be (N, C, H, W) or (N, H, W, C), both fit: {images.shape}")
    if not first and not last:
        raise ValueError(f"{key} has no axis of 1 or 3 channels: {images.shape}; {NO_IMAGES}")
    return images if first else images.transpose(0, 3, 1, 2)


def labels(key: str, raw: npt.NDArray[Any]) -> Labels:
    """Return targets (N,) that are classes, counted from 0.

    Raises
    ------
    ValueError
        If they are none.
    """
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


def on_labels(classes: int, y_train: Labels, y_test: Labels) -> list[str]:
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
