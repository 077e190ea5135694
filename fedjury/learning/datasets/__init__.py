"""Data sets by name, and how they are dealt to agents (``fedjury.learning.datasets.split``).

Every loader of ours gives images (N, C, H, W) float32 with pixels in [0, 1] and no further
normalisation. A file of the user's own (``own_file``) may hold anything.
Heavy packages are imported only by the loader that needs them. A new set is one file here, or a
function anywhere (``registry``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedjury import registry
from fedjury.config.sections import Data
from fedjury.learning.datasets import own_file
from fedjury.learning.datasets.dataset import Dataset, DatasetUnavailable
from fedjury.learning.datasets.own_file import OwnFile
from fedjury.registry import Registry, unknown

__all__ = ["DATASETS", "Dataset", "DatasetUnavailable", "Loader", "OwnFile", "chosen", "load"]

Loader = Callable[[Path, int, int], Dataset]
"""(folder for downloads, samples to hold out, seed) -> data set."""

DATASETS: Registry[Dataset] = registry.DATASETS


def chosen(data: Data) -> Dataset:
    """Load the data set that the settings name; raises what :func:`load` does."""
    how = OwnFile(data.target, data.inputs, data.learn, data.raw)
    return load(data.name, Path(data.root), data.test, how=how)


def load(
    name: str,
    root: Path,
    test: int = 1000,
    seed: int = 0,
    how: OwnFile = OwnFile(),  # noqa: B008 - it is immutable
) -> Dataset:
    """Load a data set by its name, or from a path that ends in ``.npz``, ``.csv`` or ``.parquet``.

    ``root`` is where downloads are kept. ``test`` and ``seed`` say how many samples are held out,
    and which, for the sets without a test split of their own (mnist5k, digits); the others keep
    theirs whole. ``how``: to read a file of one's own.

    Raises
    ------
    DatasetUnavailable
        If the set cannot be had here, for one because there is no internet.
    ValueError
        If the name is unknown, ``test`` is out of range, or the file is malformed.
    """
    if own_file.is_own(name):
        return own_file.load(Path(name), how, test, seed)
    if name not in DATASETS and ":" not in name:
        raise unknown(
            "data set",
            name,
            [*DATASETS, "a path ending in .npz, .csv or .parquet", "package.module:name"],
        )
    data = DATASETS.build(name, root, test, seed)
    if name not in DATASETS.own and (why := _misfit(data)):
        raise ValueError(f"data set {name!r} {why}")
    return data


def _misfit(data: Dataset) -> str:
    """Return why somebody else's data cannot be learnt from; empty if they can."""
    for part in ("train", "test"):
        x, y = np.asarray(getattr(data, f"x_{part}")), np.asarray(getattr(data, f"y_{part}"))
        if not len(x) or len(x) != len(y) or y.ndim != 1:
            return (
                f"has inputs {x.shape} and targets {y.shape} to {part} with; one of each is wanted"
            )
        wanted = np.dtype(np.int64 if data.classes else np.float32)
        if y.dtype != wanted:
            return f"has targets of {y.dtype} to {part} with; they must be {wanted}"
        if data.classes and not 0 <= y.min() <= y.max() < data.classes:
            return f"has targets from {y.min()} to {y.max()}, and {data.classes} classes from 0 on"
        if not np.isfinite(y).all() or (x.dtype.kind == "f" and not np.isfinite(x).all()):
            return f"has values to {part} with that are not finite (NaN, infinity)"
    return ""
