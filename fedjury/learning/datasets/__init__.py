"""Data sets by name, and how they are dealt to agents (``fedjury.learning.datasets.split``).

Every loader of ours gives images (N, C, H, W) float32 with pixels in [0, 1] and no further
normalisation. A file of the user's own (``own_file``) may hold anything.
Heavy packages are imported only by the loader that needs them. A new set is one file here, or a
function anywhere (``registry``).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    return DATASETS.build(name, root, test, seed)
