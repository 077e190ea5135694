"""A data set of the user's own: one .npz file with x_train, y_train, x_test and y_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from learning.datasets.dataset import Dataset, DatasetUnavailable, Images, Labels, scaled

if TYPE_CHECKING:
    from pathlib import Path

    Arrays = dict[str, npt.NDArray[Any]]

KEYS = ("x_train", "y_train", "x_test", "y_test")
CHANNELS = (1, 3)


def load(path: Path) -> Dataset:
    """Load a data set from a file.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, either uint8, which
    is divided by 255, or floats in [0, 1]. Labels are (N,) whole numbers from 0; the largest one
    says how many classes there are.

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
        x_train, y_train = _part(arrays, "train")
        x_test, y_test = _part(arrays, "test")
        _check_alike(x_train, x_test)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    classes = int(max(y_train.max(), y_test.max())) + 1
    return Dataset(path.stem, classes, x_train, y_train, x_test, y_test)


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


def _part(arrays: Arrays, part: str) -> tuple[Images, Labels]:
    images = _images(f"x_{part}", arrays[f"x_{part}"])
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


def _images(key: str, raw: npt.NDArray[Any]) -> Images:
    if raw.size == 0:
        raise ValueError(f"{key} is empty")
    images = _channels_first(key, raw)
    if raw.dtype == np.uint8:
        return scaled(images)
    if raw.dtype.kind != "f":
        raise ValueError(f"{key} must be uint8 or floating point, not {raw.dtype}")
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
        raise ValueError(f"{key} must be (N,) whole numbers, not {raw.shape} of {raw.dtype}")
    labels = raw.astype(np.int64)
    if labels.min(initial=0) < 0:
        raise ValueError(f"{key} has a negative label: {labels.min()}")
    return labels
